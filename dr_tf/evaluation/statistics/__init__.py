"""Statistical methods: bootstrap, confidence intervals and correction for label shift."""
