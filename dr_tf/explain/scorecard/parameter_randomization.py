"""Parameter randomization, a sanity check of maps (Adebayo et al., NeurIPS 2018).

The weights of a network are randomized stage by stage, from the head down. A map that does not change was not computed
from what the network has learned.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from dr_tf.models.stages import stages


def randomize_parameters(model: keras.Model, *, seed: int = 0) -> Iterator[tuple[str, keras.Model]]:
    """Randomize a copy of a network cumulatively, from the head down.

    The values of each variable are permuted, which keeps their distribution.

    Args:
        model: The network; it does not change.
        seed: Seed of the permutations.

    Yields:
        (name of the part that was randomized last, the copy). It is always the same copy.
    """
    rng = np.random.default_rng(seed)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    by_stage = stages(copy)
    staged = {id(layer) for layers in by_stage.values() for layer in layers}
    # The output layer of a head may be a network, too, but one without stages.
    backbones = {id(layer) for layer in copy.layers if isinstance(layer, keras.Model) and stages(layer)}
    head = [layer for layer in copy.layers if id(layer) not in staged | backbones]
    for name, layers in [("head", head), *reversed(by_stage.items())]:
        variables = [variable for layer in layers for variable in layer.variables if "float" in variable.dtype]
        if variables:
            for variable in variables:
                values = np.asarray(variable).ravel()
                variable.assign(rng.permutation(values).reshape(variable.shape))
            yield name, copy


def rank_correlation(map: np.ndarray, other: np.ndarray) -> float:
    """Compute Spearman's rank correlation of two maps; 0 if one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (map, other)]
    if min(np.ptp(values) for values in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
