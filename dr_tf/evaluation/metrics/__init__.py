"""Metrics of `Predictions`: for the decision to refer, the classes, several labels, other outputs and subgroups."""
