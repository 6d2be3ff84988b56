"""Grading diabetic retinopathy from fundus photographs, from raw files to a deployed model."""

__version__ = "0.1.0"
