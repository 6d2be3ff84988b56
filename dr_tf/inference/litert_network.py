"""`LiteRtNetwork`: an exported network in LiteRT (formerly TensorFlow Lite), for phones and small devices."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.export_file import Export
from dr_tf.inference.exported_network import ExportedNetwork, check_shapes
from dr_tf.inference.onnx_network import available_cores

_SIGNATURE = "serving_default"
_MARK = b"TFL3"  # at bytes 4 to 8 of every file


class LiteRtNetwork(ExportedNetwork):
    """Runs an export in LiteRT. Arguments as those of `ExportedNetwork`.

    Raises:
        UserError: the file cannot be loaded, has custom operators, or is another network than its description says.
    """

    runtime = "LiteRT"

    def __init__(self, folder: str | os.PathLike, export: Export):
        super().__init__(folder, export)
        self._lock = threading.Lock()
        self._interpreter = self._load()
        check_shapes(self.path, "input", self._shapes(self._runner.get_input_details()), export.inputs())
        check_shapes(self.path, "output", self._shapes(self._runner.get_output_details()), export.graph_outputs())

    def _load(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with open(self.path, "rb") as file:
                if file.read(8)[4:] != _MARK:
                    raise UserError(f"{self.path} cannot be read as a LiteRT file")
            interpreter = Interpreter(model_path=str(self.path), num_threads=available_cores())
            interpreter.allocate_tensors()
            self._runner = interpreter.get_signature_runner(_SIGNATURE)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: an operator that LiteRT does not have
            raise UserError(f"{self.path} cannot be loaded by LiteRT: {str(error).strip().splitlines()[0]}") from None
        return interpreter

    def operators(self) -> set[str]:
        """Return the names of the operators of the graph."""
        return {operator["op_name"] for operator in self._interpreter._get_ops_details()}

    def run(self, images: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute some outputs, image by image: LiteRT plans its memory for one batch size."""
        size = len(next(iter(images.values())))
        with self._lock:  # an interpreter has one memory for the activations of all threads
            parts = [self._runner(**{name: x[i : i + 1] for name, x in images.items()}) for i in range(size)]
        return [np.concatenate([part[name] for part in parts]).astype(np.float32) for name in outputs]

    @staticmethod
    def _shapes(details):
        return {name: detail["shape_signature"].tolist() for name, detail in details.items()}
