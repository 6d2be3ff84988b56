"""Inference: from images to calibrated decisions, without TensorFlow or Keras."""
