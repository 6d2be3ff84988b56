"""`OnnxNetwork`: an exported network in ONNX Runtime, the fast path that needs no TensorFlow."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import PATIENT_FIELDS
from dr_tf.inference.export_file import Export
from dr_tf.inference.exported_network import ExportedNetwork, check_shapes
from dr_tf.inference.onnx_safety import read_safe_onnx
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    import onnxruntime

_TYPES = dict.fromkeys(("images", "left", "right"), "tensor(uint8)") | dict.fromkeys(PATIENT_FIELDS, "tensor(float)")


def open_session(path: str | os.PathLike) -> onnxruntime.InferenceSession:
    """Open an ONNX file of unknown origin in ONNX Runtime.

    Raises:
        UserError: the file is refused by `read_safe_onnx`, or ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = available_cores()
    # Threads that wait actively for the next layer take the processor from those that read the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            read_safe_onnx(path),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,  # it prints to standard output, and tries the same provider again
        )
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime has no common class of its exceptions
        raise UserError(f"{path} cannot be loaded by ONNX Runtime: {_first_line(error)}") from None


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error):
    return printable(str(error).strip().splitlines()[0][:200]) if str(error).strip() else type(error).__name__


class OnnxNetwork(ExportedNetwork):
    """Runs an export in ONNX Runtime. Arguments as those of `ExportedNetwork`.

    Raises:
        UserError: the file is not safe, cannot be loaded, or is another network than its description says.
    """

    runtime = "ONNX Runtime"

    def __init__(self, folder: str | os.PathLike, export: Export):
        import onnxruntime

        super().__init__(folder, export)
        self._session = open_session(self.path)
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True  # prediction does not compute maps
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_shapes(self.path, "input", _shapes(inputs), export.inputs())
        check_shapes(self.path, "output", _shapes(outputs), export.graph_outputs())
        _check_inputs(self.path, inputs, export)

    def run(self, images: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute some outputs. Images go through one by one: their activations then fit into the cache."""
        size = len(next(iter(images.values())))
        parts = [self._run_one({name: x[i : i + 1] for name, x in images.items()}, outputs) for i in range(size)]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _run_one(self, feeds: dict[str, Any], outputs: Sequence[str]) -> Any:
        try:
            return self._session.run(list(outputs), feeds, self._options)
        except Exception as error:  # ONNX Runtime has no common class of its exceptions
            raise UserError(f"{self.path} cannot be run by ONNX Runtime: {_first_line(error)}") from None


def _shapes(nodes):
    return {node.name: node.shape for node in nodes}


def _check_inputs(path: pathlib.Path, inputs: Sequence[Any], export: Export) -> None:
    known = export.inputs()
    for node in inputs:
        if node.name not in known or node.type != _TYPES.get(node.name, "tensor(bool)"):
            raise UserError(f"{path}: the input {node.name!r} of type {node.type} is not one of a network of dr_tf")
