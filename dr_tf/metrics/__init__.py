"""Keras metrics that are watched during training."""
