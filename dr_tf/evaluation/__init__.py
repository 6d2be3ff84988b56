"""What a run is worth: figures with intervals, conformal grade intervals, subgroups, comparison, the report.

Everything here takes `Predictions`: arrays of truths, probabilities and decisions. No model, no TensorFlow.
"""
