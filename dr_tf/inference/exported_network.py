"""`ExportedNetwork`: an exported graph behind the `Network` protocol. Subclasses run it in their own runtime."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.export_file import FEATURES, FORMATS, MAPS, MEMBERS, Export
from dr_tf.inference.network import ImageBatch


class ExportedNetwork:
    """A network that was exported from a run.

    Args:
        folder: of the export.
        export: the content of its `export.json`.

    Attributes:
        runtime: name of the library that runs it.
    """

    runtime = ""

    def __init__(self, folder: str | os.PathLike, export: Export):
        self.folder, self.export = pathlib.Path(folder), export
        self.path = self.folder / FORMATS[export.format]

    def run(self, images: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute some of the graph's outputs from all of its inputs, by name. Subclasses define it."""
        raise NotImplementedError

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return self.export.image_size

    @property
    def width(self) -> int:
        """The number of features."""
        return self.export.width

    @property
    def paired(self) -> bool:
        """Whether the network takes both eyes of a patient."""
        return self.export.paired

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(self.export.outputs)

    @property
    def description(self) -> str:
        """The name and size of the network, and what runs it."""
        quantized = f", {self.export.quantized}" if self.export.quantized else ""
        return f"{self.export.description}{quantized}, in {self.runtime}"

    @property
    def ensemble(self) -> bool:
        """Whether the network is an ensemble, whose outputs are averages."""
        return self.export.ensemble > 0

    def __call__(self, images: ImageBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Compute ({output: logits}, features) of a batch as float32."""
        *logits, features = self.run(self.named(images), [*self.outputs, FEATURES])
        return dict(zip(self.outputs, logits, strict=True)), features

    def with_maps(self, images: ImageBatch) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Compute ({output: logits}, features, maps [n, h, w, logits of the deciding output]) of a batch."""
        *logits, features, maps = self.run(self.named(images), [*self.outputs, FEATURES, MAPS])
        return dict(zip(self.outputs, logits, strict=True)), features, maps

    def members(self, features: np.ndarray) -> dict[str, np.ndarray] | None:
        """Compute {output: logits [members, n, ...]} of each member of an ensemble; None for a single network."""
        if not self.ensemble:
            return None
        session = self._members_session
        logits = session.run(list(self.outputs), {FEATURES: np.asarray(features, np.float32)})
        return {name: values.swapaxes(0, 1) for name, values in zip(self.outputs, logits, strict=True)}

    @functools.cached_property
    def _members_session(self):
        from dr_tf.inference.onnx_network import open_session

        return open_session(self.folder / MEMBERS)

    def named(self, images: ImageBatch) -> dict[str, np.ndarray]:
        """Return a batch as {name of an input: array}. Pixels that are not uint8 are rounded."""
        by_name = images if isinstance(images, Mapping) else {"images": images}
        return {
            name: np.asarray(by_name[name]) if not shape else _as_pixels(by_name[name])
            for name, shape in self.export.inputs().items()
        }


def _as_pixels(images):
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else np.clip(np.rint(images), 0, 255).astype(np.uint8)


def check_shapes(
    path: pathlib.Path,
    kind: str,
    found: Mapping[str, Sequence[int | str | None]],
    expected: Mapping[str, Sequence[int | None]],
) -> None:
    """Check that a graph has the inputs or outputs that its description states.

    Args:
        path: of the graph, for the message.
        kind: "input" or "output", for the message.
        found: {name: shape with the batch axis}; what is not an integer is unknown.
        expected: {name: shape without the batch axis}; None for any size.

    Raises:
        UserError: a name is missing or a shape differs.
    """
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{path} has no {kind} {name!r}; it has {', '.join(found) or 'none'}")
        sizes = list(found[name])[1:]
        pairs = zip(sizes, shape, strict=False)
        if len(sizes) != len(shape) or any(isinstance(a, int) and a > 0 and b is not None and a != b for a, b in pairs):
            raise UserError(f"{path}: the {kind} {name!r} has the shape {sizes}, not {list(shape)}")
