"""Inference: from images to calibrated decisions, without TensorFlow or Keras."""

import os

# ONNX Runtime (seen in 1.31) has its maker's telemetry built in, which writes an identifier of the device and a data base to
# the home folder, unless this variable is set when it is imported. Whoever sets it to another value decides for themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
