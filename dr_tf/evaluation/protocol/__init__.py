"""Evaluation protocols: which examples are evaluated, out-of-fold and external validation, and the test log."""
