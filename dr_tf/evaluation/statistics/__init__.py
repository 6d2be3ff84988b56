"""Statistical methods: bootstrap, confidence intervals, conformal prediction and correction for label shift."""
