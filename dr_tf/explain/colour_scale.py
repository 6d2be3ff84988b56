"""One scale of colours for all photographs of a run, kept with it as `map_scale.json`.

Full colour is what half of the photographs that the network calls positive reach at their strongest place. That was chosen
by looking, at validation photographs of IDRiD beside the model that comes with dr_tf: at the median cleared photographs
show nothing and lesions of the referred ones stand out; at the 75th and 95th percentile of the strongest places small
lesions faded, too. A target that too few photographs were called has no scale; maps are then stretched. Without the
probability in the maps no scale would do: Grad-CAM's own sums are as large on cleared photographs as on referred ones.
"""

import collections
import json
import math
import pathlib

import numpy as np
import tensorflow as tf

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.explainer import POSITIVE

MAP_SCALE = "map_scale.json"
_VERSION = 1
_FULL = 50  # percentile of the strongest places
_ENOUGH = 10  # photographs
_CALLED = 0.5  # from which of the network's own probability on a photograph is called what the target says


def fit_scale(explainer, batches, targets=None):
    """What full colour is, as plain data for `write_scale`.

    Args:
        explainer: of the network, method and layer that the scale is to be of.
        batches: photographs as the explainer takes them: the run's calibration split, or where there is none those that
            it learned from. Each batch is looked at once.
        targets: those to fit; all that the explainer knows where left out.

    Returns:
        {"version", "scales": [{"method", "layer", "target", "value", "photographs"}]}, without targets that fewer than
        ten of the photographs were called, or for which nothing speaks on half of those.
    """
    names = [explainer.targets[explainer.number(one)] for one in targets or explainer.targets]
    strongest = collections.defaultdict(list)
    for x in batches:
        first = explainer(x)
        for name in names:
            called = np.flatnonzero(first.probabilities[name] > _CALLED)
            if len(called):
                found = explainer(tf.nest.map_structure(lambda part, rows=called: np.asarray(part)[rows], x), name)
                strongest[name] += _strongest(found.maps).tolist()
    scales = [_scale(explainer, name, of) for name, of in strongest.items() if len(of) >= _ENOUGH]
    return {"version": _VERSION, "scales": [scale for scale in scales if scale["value"] > 0]}


def _scale(explainer, target, strongest):
    about = {"method": explainer.method, "layer": explainer.place.name, "target": target}
    return about | {"value": round(float(np.percentile(strongest, _FULL)), 4), "photographs": len(strongest)}


def write_scale(run_dir, fitted):
    files.write_json(pathlib.Path(run_dir) / MAP_SCALE, fitted)


def read_scale(run_dir):
    """What `fit_scale` gave; None for a run that was kept without."""
    path = pathlib.Path(run_dir) / MAP_SCALE
    if not path.exists():
        return None
    try:
        fitted = json.loads(path.read_text(encoding="utf-8"))
        if fitted["version"] != _VERSION:
            raise ValueError(f"its version is {fitted['version']}, not {_VERSION}")
        for scale in fitted["scales"]:
            _check(scale)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__}: {error}") from None
    return fitted


def _check(scale):
    if not all(isinstance(scale[name], str) for name in ("method", "layer", "target")):
        raise ValueError("method, layer and target are names")
    if not (isinstance(scale["value"], (int, float)) and math.isfinite(scale["value"]) and scale["value"] > 0):
        raise ValueError(f"a value is a number above 0, not {scale['value']!r}")


def full_colour(fitted, explainer, target=POSITIVE):
    """The map's value of full colour; None where none was fitted for this method, layer and target: to be stretched."""
    wanted = explainer.method, explainer.place.name, explainer.targets[explainer.number(target)]
    found = (scale for scale in (fitted or {"scales": []})["scales"] if wanted == _key(scale))
    return next((scale["value"] for scale in found), None)


def _key(scale):
    return scale["method"], scale["layer"], scale["target"]


def coloured(maps, full=None):
    """Maps of an Explanation as colours, 0 to 1: `full` and above is 1; without it the strongest place of each example is."""
    if full is None:
        return stretched(maps)
    return tf.nest.map_structure(lambda of: np.minimum(of / full, 1), maps)


def stretched(maps):
    """The strongest place of each example becomes 1, of both eyes together; what is 0 everywhere stays so."""
    strongest = _strongest(maps)[:, None, None]
    return tf.nest.map_structure(lambda of: np.divide(of, strongest, np.zeros_like(of), where=strongest > 0), maps)


def _strongest(maps):
    """[n]: the largest value of each example."""
    return np.max([of.max(axis=(1, 2)) for of in tf.nest.flatten(maps)], axis=0)


def words(full):
    """What is said of the colours beside pictures."""
    if full is None:
        return "colours: stretched to the strongest place of each photograph"
    return "colours: on one scale for all photographs"
