"""Evaluation: metrics with confidence intervals, prediction intervals, subgroups, comparison of runs, and the report.

All of it works on `Predictions`, which hold the true classes, the predicted probabilities and the decisions of a run.
"""
