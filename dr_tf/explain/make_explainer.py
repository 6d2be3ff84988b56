"""Choose the explainer of a run: by gradients where its Keras model is at hand, without them where only an export is."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, cast

from dr_tf.console import UserError, is_installed
from dr_tf.explain.colour_scale import method_of_run, read_scale
from dr_tf.explain.export_explainer import CAM, OCCLUSION, ExportExplainer
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.inference.network import MODEL, Network, load_network
from dr_tf.inference.rule import Rule

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.models.network import KerasNetwork


def make_explainer(
    run_dir: str | os.PathLike, network: Network, rule: Rule, *, method: str | None = None, layer: str | None = None
) -> Explainer | ExportExplainer:
    """Build the explainer of a run or an export.

    Args:
        run_dir: The folder of the run or the export.
        network: Its network, as loaded for prediction.
        rule: Its decision rule.
        method: The method; None for that of the run, or of the export.
        layer: The layer; None for the default of the method.

    Raises:
        UserError: The method or layer does not exist, or needs the run itself.
    """
    if isinstance(network, ExportedNetwork) and (method in (CAM, OCCLUSION) or not _has_gradients(run_dir)):
        if layer not in (None, network.export.map_layer):
            raise UserError(f"--layer {layer} needs the run itself and TensorFlow")
        return ExportExplainer(network, rule.head, method=method)
    from dr_tf.explain.explainer import Explainer

    own = load_network(run_dir, keras=True) if isinstance(network, ExportedNetwork) else network
    model = cast("KerasNetwork", own).model
    return Explainer(
        model, rule.head, output=rule.decides, method=method or method_of_run(read_scale(run_dir)), layer=layer
    )


def _has_gradients(run_dir: str | os.PathLike) -> bool:
    return (pathlib.Path(run_dir) / MODEL).exists() and is_installed("keras") and is_installed("tensorflow")
