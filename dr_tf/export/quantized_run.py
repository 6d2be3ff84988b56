"""Quantize an export, and refit what depends on the network's own answers: calibration, thresholds and gate."""

from __future__ import annotations

import os
import pathlib

from dr_tf.export.photographs import Photographs
from dr_tf.inference.export_file import FORMATS, read_export
from dr_tf.inference.run import CALIBRATION, Run, load_run, write_decision
from dr_tf.training.fit_decision import DecisionSettings, fit_decision, fit_training_features


def quantize_run(run: Run, folder: pathlib.Path, photographs: Photographs) -> None:
    """Quantize the network of an export in its folder, and fit its decision rule on its own answers.

    Where the network was trained on its calibration photographs, only the gate is fitted anew: the networks of the folds
    set the thresholds, and a network's answers on its own training photographs would make them too optimistic.

    Args:
        run: that was exported.
        folder: of the export.
        photographs: of the run's records.
    """
    export = read_export(folder)
    assert export is not None
    path = folder / FORMATS[export.format]
    _quantize_file(path, export, photographs)
    network = load_run(folder).network
    if photographs.calibration_was_fitted:
        fitted = fit_training_features(
            network,
            photographs.images,
            photographs.fitted,
            head=run.rule.head,
            needs_neighbours=any(mode.definition.vote for mode in run.rule.modes.values()),
        )
        write_decision(folder, run.rule, run.preparation, fitted.distribution, fitted.neighbours)
        return
    (folder / CALIBRATION).unlink()  # scores of the network in float
    fit_decision(
        network,
        DecisionSettings.from_rule(run.rule),
        images=photographs.images,
        fit_rows=photographs.fitted,
        calibration_rows=photographs.calibration,
        run_dir=folder,
    )


def _quantize_file(path, export, photographs):
    quantized = path.with_name(f"quantized{path.suffix}")
    batches = photographs.to_quantize(export.inputs())
    if export.format == "onnx":
        from dr_tf.export.quantize import quantize_onnx

        quantize_onnx(path, quantized, batches)
    else:
        from dr_tf.export.litert_file import quantize_litert

        quantized.write_bytes(quantize_litert(path, batches))
    os.replace(quantized, path)
