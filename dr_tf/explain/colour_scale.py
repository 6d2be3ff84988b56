"""The colour scale of class-activation maps, one for all images of a run, stored with the run as `map_scale.json`.

The full colour stands for the median, over the images that the network predicts as positive, of a map's maximum. The
percentile was chosen by eye on validation images of IDRiD with the model that comes with dr_tf: at the median, maps of
cleared images show nothing and lesions of referred ones stand out. At the 75th and 95th percentile small lesions also
faded. A target that is predicted for too few images has no scale; each map is then stretched to its own maximum. The
scale needs maps that are normalized by the predicted probability (see `Explanation`): the sums of plain Grad-CAM are as
large on cleared images as on referred ones.
"""

from __future__ import annotations

import collections
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.explanation import POSITIVE, Images

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer

MAP_SCALE = "map_scale.json"
_VERSION = 1
_PERCENTILE = 50  # of the maxima of the maps
_MIN_IMAGES = 10
_MIN_PROBABILITY = 0.5  # above it an image is predicted as the target, without calibration

MapScale = dict[str, Any]  # {"version": 1, "scales": [{"method", "layer", "target", "value", "photographs"}]}


def fit_scale(explainer: Explainer | ExportExplainer, batches: Iterable[Images]) -> MapScale:
    """Compute the map value of the full colour for each target of an explainer.

    Args:
        explainer: The explainer, whose network, method and layer the scale is for.
        batches: Images of the calibration split, or training images if there is none.

    Returns:
        The scale as plain data. It lacks targets that fewer than ten images are predicted as, and targets for which the
        maps of at least half of these are 0 everywhere.
    """
    maxima: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
    for x in batches:
        probabilities = explainer(x).probabilities
        for target in explainer.targets:
            rows = np.flatnonzero(probabilities[target] > _MIN_PROBABILITY)
            if len(rows):
                positive = _map(lambda part, rows=rows: np.asarray(part)[rows], x)
                maxima[target] += _maxima(explainer(positive, target).maps).tolist()
    scales = [_scale_of(explainer, target, values) for target, values in maxima.items() if len(values) >= _MIN_IMAGES]
    return {"version": _VERSION, "scales": [scale for scale in scales if scale["value"] > 0]}


def _scale_of(explainer, target, maxima):
    return {
        "method": explainer.method,
        "layer": explainer.layer_name,
        "target": target,
        "value": round(float(np.percentile(maxima, _PERCENTILE)), 4),
        "photographs": len(maxima),
    }


def write_scale(run_dir: str | os.PathLike, scale: MapScale) -> None:
    """Write the scale into a run directory."""
    files.write_json(pathlib.Path(run_dir) / MAP_SCALE, scale)


def add_scale(run_dir: str | os.PathLike, scale: MapScale) -> None:
    """Add a scale of another method or layer to that of a run. Values of the same method and layer are replaced."""
    earlier = read_scale(run_dir) or {"version": _VERSION, "scales": []}
    replaced = {(entry["method"], entry["layer"]) for entry in scale["scales"]}
    kept = [entry for entry in earlier["scales"] if (entry["method"], entry["layer"]) not in replaced]
    write_scale(run_dir, {"version": _VERSION, "scales": kept + scale["scales"]})


def read_scale(run_dir: str | os.PathLike) -> MapScale | None:
    """Read the scale of a run, or None if it has no scale.

    Raises:
        UserError: The file is damaged or of another version.
    """
    path = pathlib.Path(run_dir) / MAP_SCALE
    if not path.exists():
        return None
    try:
        scale = json.loads(path.read_text(encoding="utf-8"))
        if scale["version"] != _VERSION:
            raise ValueError(f"its version is {scale['version']}, not {_VERSION}")
        for entry in scale["scales"]:
            _check(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__}: {error}") from None
    return scale


def _check(entry):
    if not all(isinstance(entry[name], str) for name in ("method", "layer", "target")):
        raise ValueError("method, layer and target are names")
    if not (isinstance(entry["value"], (int, float)) and math.isfinite(entry["value"]) and entry["value"] > 0):
        raise ValueError(f"a value is a number above 0, not {entry['value']!r}")


def full_colour_value(
    scale: MapScale | None, explainer: Explainer | ExportExplainer, target: str | int = POSITIVE
) -> float | None:
    """Return the map value that has the full colour.

    Returns:
        The value for this method, layer and target, or None if the scale does not contain it: maps are then stretched.
    """
    wanted = explainer.method, explainer.layer_name, explainer.targets[explainer.target_index(target)]
    for entry in scale["scales"] if scale else ():
        if (entry["method"], entry["layer"], entry["target"]) == wanted:
            return entry["value"]
    return None


def method_of_run(scale: MapScale | None) -> str:
    """Return the method that a run's scale was fitted for, which is the run's default; `DEFAULT_METHOD` without one."""
    from dr_tf.explain.methods import DEFAULT_METHOD, METHODS  # imports TensorFlow

    methods = [entry["method"] for entry in scale["scales"]] if scale else []
    return methods[0] if methods and methods[0] in METHODS else DEFAULT_METHOD


def scale_maps(maps: Any, full_colour: float | None = None) -> Any:
    """Scale the maps of an Explanation to colours from 0 to 1.

    Args:
        maps: [n, h, w], or {eye: [n, h, w]}.
        full_colour: The map value that becomes 1; larger values are clipped. None: see `stretch_maps`.

    Returns:
        The scaled maps, in the structure of `maps`.
    """
    if full_colour is None:
        return stretch_maps(maps)
    return _map(lambda values: np.minimum(values / full_colour, 1), maps)


def stretch_maps(maps: Any) -> Any:
    """Divide the map of each example, or both maps of paired eyes, by its maximum. Maps of zeros do not change.

    Args:
        maps: [n, h, w], or {eye: [n, h, w]}.

    Returns:
        The stretched maps, in the structure of `maps`.
    """
    maxima = _maxima(maps)[:, None, None]
    return _map(lambda values: np.divide(values, maxima, np.zeros_like(values), where=maxima > 0), maps)


def _maxima(maps):
    """The maximum of each example's maps, [n]."""
    by_eye = maps.values() if isinstance(maps, dict) else [maps]
    return np.max([values.max(axis=(1, 2)) for values in by_eye], axis=0)


def _map(function, values):
    """Apply a function to an array, or to the values of a dict."""
    if isinstance(values, Mapping):
        return {name: function(value) for name, value in values.items()}
    return function(values)


def scale_caption(full_colour: float | None) -> str:
    """Return the caption about colours under a picture."""
    if full_colour is None:
        return "colours: each map scaled to its own maximum"
    return "colours: one scale for all photographs"
