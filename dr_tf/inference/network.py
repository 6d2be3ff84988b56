"""The Network protocol: what prediction needs of a trained network. Keras, ONNX Runtime and LiteRT implement it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.export_file import Export, read_export
from dr_tf.safe_names import printable

MODEL, TWIN = "model.keras", "onnx"

# uint8 RGB [n, side, side, 3]. For networks that take both eyes: such arrays as "left" and "right", and beside them bool
# [n] as "left_present" and "right_present", and float32 [n] as "age" and "sex". A network takes what it needs of them.
ImageBatch = np.ndarray | Mapping[str, np.ndarray]


class Network(Protocol):
    """A function from images to logits and features, with the attributes needed to prepare its inputs."""

    @property
    def image_size(self) -> int:
        """The side of the input images in pixels."""

    @property
    def width(self) -> int:
        """The number of features."""

    @property
    def paired(self) -> bool:
        """Whether the network takes both eyes of a patient."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""

    @property
    def description(self) -> str:
        """The name and size of the network in a few words."""

    @property
    def runtime(self) -> str:
        """The library that runs the network: "TensorFlow", "ONNX Runtime" or "LiteRT"."""

    @property
    def ensemble(self) -> bool:
        """Whether the network is an ensemble, whose outputs are averages."""

    def __call__(self, images: ImageBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Compute ({output: logits [n, ...]}, features [n, width]) as float32."""

    def members(self, features: np.ndarray) -> dict[str, np.ndarray] | None:
        """Compute {output: logits [members, n, ...]} of each member of an ensemble; None for a single network."""


def load_network(run_dir: str | os.PathLike, *, keras: bool = False) -> Network:
    """Load the network of a run or an export.

    ONNX Runtime runs it where the folder is an ONNX export, or a run whose folder `onnx` holds one of the same weights.

    Args:
        run_dir: the folder of the run or the export.
        keras: whether the network has to be the run's own Keras model, for training, gradients or comparison.

    Raises:
        UserError: there is no network, or it cannot be read.
    """
    folder = pathlib.Path(run_dir)
    if keras or (at_hand := find_export(folder)) is None:
        if not (folder / MODEL).exists():
            raise UserError(f"{printable(folder)} is an export without {MODEL}: this needs the run itself")
        from dr_tf.models.network import KerasNetwork  # imports TensorFlow

        return KerasNetwork.load(folder / MODEL)
    where, export = at_hand
    if export.format == "saved_model":
        from dr_tf.inference.saved_model_network import SavedModelNetwork

        return SavedModelNetwork(where, export)
    if export.format == "litert":
        from dr_tf.inference.litert_network import LiteRtNetwork

        return LiteRtNetwork(where, export)
    from dr_tf.inference.onnx_network import OnnxNetwork

    return OnnxNetwork(where, export)


def find_export(folder: pathlib.Path) -> tuple[pathlib.Path, Export] | None:
    """Return (folder, Export) of the exported network that answers for a folder; None if its Keras model does.

    A twin, the export in a run's folder `onnx`, answers only if it was made from the very model that is beside it.
    """
    if (export := read_export(folder)) is not None:
        return folder, export
    twin = folder / TWIN
    if (export := read_export(twin)) is None or export.format != "onnx":
        return None
    if (folder / MODEL).exists() and export.run.get("model") != files.sha256(folder / MODEL):
        return None
    return twin, export
