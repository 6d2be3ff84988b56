"""Does a map change when the network forgets? (Adebayo et al., NeurIPS 2018)

Weights are shuffled in place, from the head down, stage by stage. A map that stays as it was did not come from them.
"""

import keras
import numpy as np

from dr_tf.models.stages import stages


def randomize_parameters(model, *, seed=0):
    """Yields (what was forgotten last, a network that has forgotten it and all above); always the same network."""
    rng = np.random.default_rng(seed)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    parts = stages(copy)
    staged = {id(layer) for layers in parts.values() for layer in layers}
    head = [layer for layer in copy.layers if id(layer) not in staged and not isinstance(layer, keras.Model)]
    for name, layers in [("head", head), *reversed(parts.items())]:
        variables = [variable for layer in layers for variable in layer.variables if _is_weight(variable)]
        if variables:
            for variable in variables:
                values = np.asarray(variable).ravel()
                variable.assign(rng.permutation(values).reshape(variable.shape))
            yield name, copy


def _is_weight(variable):
    return "float" in variable.dtype


def rank_correlation(map, other):
    """Spearman's rank correlation; 0 where a map is the same everywhere."""
    from scipy.stats import rankdata

    ranks = [rankdata(one) for one in (map, other)]
    if min(np.ptp(one) for one in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
