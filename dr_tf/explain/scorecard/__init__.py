"""Scorecard: how reliable maps are.

It scores them against lesion masks (pointing game, energy-based pointing game, IoU, average precision), by deletion and
insertion, and by parameter randomization, each beside two baselines that do not depend on the network.
"""
