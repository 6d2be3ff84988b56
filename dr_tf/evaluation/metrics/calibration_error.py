"""How far stated probabilities are from what happens: expected calibration error, in bins of equal width.

ECE = sum over bins of |sum of (outcome - probability)| / n (Naeini et al., AAAI 2015). `ece` looks at the probability of
the likeliest class (Guo et al., ICML 2017), classwise ECE at every class by itself, averaged (Kull et al., NeurIPS 2019).
"""

import numpy as np

BINS = 15
KIND = f"{BINS} bins of equal width"


def bin_of(probabilities):
    return np.clip((probabilities * BINS).astype(int), 0, BINS - 1)


def gaps(probabilities, outcomes):
    """[n, bins]: each row's outcome minus probability, in its bin."""
    columns = np.zeros((len(probabilities), BINS))
    columns[np.arange(len(probabilities)), bin_of(probabilities)] = outcomes - probabilities
    return columns


def from_sums(sums, n):
    """ECE from the gaps summed over rows [..., bins]."""
    return np.abs(sums).sum(axis=-1) / n


def ece(probabilities, outcomes):
    return float(from_sums(gaps(probabilities, outcomes).sum(axis=0), len(outcomes)))


def top_label(probabilities, truth):
    """The likeliest class's probability, and whether it was the true one."""
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype(float)


def classwise_gaps(probabilities, outcomes):
    """[n, classes * bins] of probabilities and 0/1 outcomes [n, classes]."""
    each = [gaps(p, y) for p, y in zip(probabilities.T, outcomes.T, strict=True)]
    return np.concatenate(each, axis=1)


def classwise_ece(probabilities, outcomes):
    return float(np.mean([ece(p, y) for p, y in zip(probabilities.T, outcomes.T, strict=True)]))


def reliability(probabilities, outcomes):
    """For each bin with rows in it: mean probability, share of outcomes, rows."""
    bins = bin_of(probabilities)
    n = np.bincount(bins, minlength=BINS)
    used = n > 0
    stated, happened = (np.bincount(bins, values, minlength=BINS)[used] for values in (probabilities, outcomes))
    return stated / n[used], happened / n[used], n[used]


def debiased_interval(value, bootstrap_samples):
    """Percentiles of bootstrapped ECEs without the noise that the bins add, and never below `value` at the upper end.

    Noise in a bin counts as error whatever its sign: once in the ECE itself, once more in each round. Its square is the
    excess of the bootstrap_samples' mean square over the value's. Plain percentiles covered a true ECE of 0 never.
    """
    noise = max(0.0, float(np.mean(bootstrap_samples**2)) - value**2)
    low, high = (np.sqrt(max(0.0, q**2 - 2 * noise)) for q in np.quantile(bootstrap_samples, (0.025, 0.975)))
    return float(min(low, value)), float(max(high, value))
