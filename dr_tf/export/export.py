"""Export a finished run: write the network in another format beside its decision rule, and compare both with the run."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from dr_tf import files
from dr_tf.console import UserError, require_packages
from dr_tf.export import parity
from dr_tf.inference.export_file import EXPORT, FORMATS, MEMBERS, Export, write_export
from dr_tf.inference.network import MODEL, TWIN
from dr_tf.inference.ready import MEASURED
from dr_tf.inference.run import CALIBRATION, DECISION, GATE, NEIGHBOURS, Run, load_run

if TYPE_CHECKING:
    from dr_tf.export.graph import ExportedGraph
    from dr_tf.export.photographs import Photographs
    from dr_tf.inference.exported_network import ExportedNetwork
    from dr_tf.models.network import KerasNetwork

INT8 = "int8"
CARD, CONFIG, MAP_SCALE = "README.md", "config.gin", "map_scale.json"
# What travels with the network: everything else that a decision, a report or a picture needs.
_COMPANIONS = (CONFIG, DECISION, GATE, NEIGHBOURS, CALIBRATION, MAP_SCALE, MEASURED, CARD)
_PACKAGES = {"onnx": ("tf2onnx", "onnx"), "litert": ("ai_edge_litert",), "saved_model": ()}
_CARD = """# {name}

{description}, exported from a run of dr_tf that was trained on {records}. It decides {positive}.

`export.json` says how it was compared with that run; `decision.json` has calibration, thresholds and gate. The commands
`predict`, `explain` and `evaluate` of dr_tf take this folder as --run_dir. This is research software, not a medical device.
"""


def export(
    run_dir: str | os.PathLike,
    format: str,
    output: str | os.PathLike | None = None,
    *,
    photographs: Photographs | None = None,
    quantize: str | None = None,
    half: bool = False,
    accept_difference: bool = False,
    on_status: Callable[[str], object] = lambda line: None,
) -> tuple[pathlib.Path, Export]:
    """Export a run, and compare the export with it. An export that differs too much leaves nothing behind.

    Args:
        run_dir: of the finished run.
        format: a name in `dr_tf.inference.export_file.FORMATS`.
        output: the folder to write. None puts an ONNX network beside the run's own, in RUN/onnx, where the commands use
            it for the run.
        photographs: of the run's records; quantization and the colour scale of the export's maps need them. None: the
            comparison is on synthetic retinas, and each map is scaled to its own maximum.
        quantize: "int8", or None for float32.
        half: whether large weights are stored as float16 (ONNX only).
        accept_difference: whether a larger difference is accepted. It is stored in `export.json` all the same.
        on_status: called with a line at each step.

    Returns:
        (the folder, the content of `export.json`).

    Raises:
        UserError: the run cannot be exported, or the export differs too much from it.
    """
    folder = _checked_output(pathlib.Path(run_dir), format, output, quantize, photographs)
    _check_packages(format, quantize)
    run = load_run(run_dir, keras=True)
    with files.atomic_write(folder) as unfinished:
        unfinished.mkdir()
        for name in _COMPANIONS:
            _copy(pathlib.Path(run_dir) / name, unfinished / name)
        description, was_half = _write_network(run, format, unfinished, half=half, on_status=on_status)
        description = dataclasses.replace(description, run=_checksums(run_dir), quantized=quantize or "")
        write_export(unfinished, description)
        if quantize:
            from dr_tf.export.quantized_run import quantize_run

            on_status("quantizing: ranges, then thresholds and gate, on photographs of the calibration split")
            quantize_run(run, unfinished, cast("Photographs", photographs))
        on_status(f"comparing {'on ' + photographs.name if photographs else 'on synthetic retinas'}")
        tolerance = _tolerance(was_half, half, quantize)
        comparison = _compare(run, unfinished, photographs, tolerance, accept_difference)
        description = dataclasses.replace(description, comparison=comparison)
        write_export(unfinished, description)
        if photographs and description.map_layer:
            _add_map_scale(pathlib.Path(run_dir) if output is None else unfinished, load_run(unfinished), photographs)
        if output is None:
            _keep_network_only(unfinished)
        elif not (unfinished / CARD).exists():
            (unfinished / CARD).write_text(_card(folder, run, description), encoding="utf-8")
    return folder, description


def _checked_output(run_dir, format, output, quantize, photographs):
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    if quantize not in (None, INT8):
        raise UserError(f"unknown quantization {quantize!r}; known: {INT8}")
    if quantize and format == "saved_model":
        raise UserError("a SavedModel is not quantized: use --format onnx or litert")
    if quantize and photographs is None:
        raise UserError("quantization needs the photographs of the run's calibration split: --records")
    if output is None:
        if format != "onnx" or quantize:
            raise UserError("without --output an ONNX network in float32 is put beside the run; name a folder")
        return run_dir / TWIN
    folder = pathlib.Path(output)
    if folder.resolve() == run_dir.resolve():
        raise UserError("--output is the run itself; name another folder")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / EXPORT).exists())):
        raise UserError(f"--output {folder} is neither empty nor an export; name another folder")
    return folder


def _check_packages(format, quantize):
    require_packages(*_PACKAGES[format])
    if quantize:
        require_packages("onnx" if format == "onnx" else "litert_quantizer")


def _write_network(run, format, folder, *, half, on_status):
    """Write the network into a folder; return (its Export, whether it computed in half precision)."""
    from dr_tf.export.graph import ExportedGraph
    from dr_tf.models.in_float32 import in_float32

    network = cast("KerasNetwork", run.network)
    model = in_float32(network.model)
    graph = ExportedGraph(model, run.rule.decides, batch=1 if format == "litert" else None)
    on_status(f"converting {network.description}")
    _WRITERS[format](graph, folder / FORMATS[format], half)
    members = network.members_count
    if members:
        _write_members(model, network.outputs, folder)
    description = Export(
        format=format,
        description=network.description,
        image_size=network.image_size,
        width=network.width,
        paired=network.paired,
        age_and_sex="age" in graph.signature,
        outputs={name: head.outputs for name, head in run.rule.heads.items()},
        decides=run.rule.decides,
        map_layer=graph.map_layer,
        ensemble=members,
    )
    return description, model is not network.model


def _write_onnx(graph: ExportedGraph, path: pathlib.Path, half: bool) -> None:
    from dr_tf.export.onnx_file import halve_weights, save, to_onnx

    model = to_onnx(graph.function, graph.signature)
    if half:
        halve_weights(model)
    save(model, path)


def _write_litert(graph: ExportedGraph, path: pathlib.Path, half: bool) -> None:
    from dr_tf.export.litert_file import to_litert

    path.write_bytes(to_litert(graph.function, graph.signature))


def _write_saved_model(graph: ExportedGraph, path: pathlib.Path, half: bool) -> None:
    from dr_tf.export.saved_model import SERVING_CONFIG, write_saved_model, write_serving_config

    write_saved_model(path, graph.function, graph.signature)
    write_serving_config(path.parent / SERVING_CONFIG, path.name)


_WRITERS = {"onnx": _write_onnx, "litert": _write_litert, "saved_model": _write_saved_model}


def _write_members(model: Any, outputs: Sequence[str], folder: pathlib.Path) -> None:
    from dr_tf.export.graph import members_function
    from dr_tf.export.onnx_file import save, to_onnx

    require_packages("tf2onnx", "onnx")
    function, signature = members_function(model, outputs)
    save(to_onnx(function, signature), folder / MEMBERS)


def _checksums(run_dir):
    return {"model": files.sha256(f"{run_dir}/{MODEL}"), "decision": files.sha256(f"{run_dir}/{DECISION}")}


def _copy(source, target):
    if source.exists():
        shutil.copyfile(source, target)


def _tolerance(was_half: bool, half: bool, quantize: str | None) -> parity.Tolerance:
    if quantize:
        return parity.INT8
    return parity.HALF if was_half or half else parity.EXACT


def _compare(
    run: Run,
    folder: pathlib.Path,
    photographs: Photographs | None,
    tolerance: parity.Tolerance,
    accept_difference: bool,
) -> dict[str, Any]:
    """Open the export in its own runtime and compare it with the run."""
    exported = load_run(folder)
    batches = (
        photographs.to_compare()
        if photographs
        else parity.synthetic_batches(run.preparation, paired=run.network.paired)
    )
    comparison = parity.compare(run, exported, batches)
    comparison["photographs"] = photographs.name if photographs else "synthetic retinas"
    comparison["tolerance"] = {k: v for k, v in dataclasses.asdict(tolerance).items() if v < float("inf")}
    comparison["problem"] = parity.problem(comparison, tolerance)
    if comparison["problem"] and not accept_difference:
        raise UserError(
            f"the export differs from the run, and was not written: {comparison['problem']}; --accept_difference writes it"
        )
    return comparison


def _add_map_scale(folder: pathlib.Path, exported: Run, photographs: Photographs) -> None:
    """Fit the colour scale of the export's own maps, so that colours compare between photographs."""
    from dr_tf.explain.colour_scale import add_scale, fit_scale
    from dr_tf.explain.export_explainer import ExportExplainer

    network = cast("ExportedNetwork", exported.network)
    add_scale(folder, fit_scale(ExportExplainer(network, exported.rule.head), photographs.to_scale()))


def _keep_network_only(folder):
    """A network beside its run: the run's own files serve both."""
    for name in _COMPANIONS:
        (folder / name).unlink(missing_ok=True)


def _card(folder, run, description):
    return _CARD.format(
        name=folder.name,
        description=description.description,
        records=run.preparation.records,
        positive=run.rule.head.positive,
    )
