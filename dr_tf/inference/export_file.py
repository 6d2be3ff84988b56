"""`export.json`: what an exported network is, which run it came from, and how it was compared with that run.

A file of unknown origin is safe to read: every value is checked, and no path in it is followed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from dr_tf.console import UserError
from dr_tf.files import write_json
from dr_tf.grades import PATIENT_FIELDS
from dr_tf.safe_names import printable

EXPORT = "export.json"
MEMBERS = "members.onnx"  # of an ensemble: features -> the logits of each member
FEATURES, MAPS = "features", "maps"  # outputs of an exported graph beside the run's own
# Format -> the file or folder of the network in an export.
FORMATS = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
_VERSION = 1
_SIDES, _MAX_WIDTH = range(16, 8193), 1 << 20


@dataclasses.dataclass(frozen=True)
class Export:
    """The description of an exported network.

    Attributes:
        format: a name in FORMATS.
        description: name and size of the network in a few words.
        image_size: side of its images in pixels.
        width: number of features.
        paired: whether it takes both eyes of a patient.
        age_and_sex: whether it takes the patient's age and sex, too.
        outputs: {output: number of logits}.
        decides: the output that decides.
        map_layer: the layer that its maps of the deciding output's logits show; empty if it has no maps in closed form.
        ensemble: number of members; 0 for a single network.
        quantized: "int8", or empty.
        run: {"model", "decision"}: SHA-256 of these files of the run.
        comparison: how the export was compared with the run, and by how much they differ.
    """

    format: str
    description: str
    image_size: int
    width: int
    paired: bool
    outputs: dict[str, int]
    decides: str
    age_and_sex: bool = False
    map_layer: str = ""
    ensemble: int = 0
    quantized: str = ""
    run: dict[str, str] = dataclasses.field(default_factory=dict)
    comparison: dict[str, Any] = dataclasses.field(default_factory=dict)

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return {name: shape without the batch axis} of the graph's inputs."""
        image = (self.image_size, self.image_size, 3)
        if not self.paired:
            return {"images": image}
        patient: dict[str, tuple[int, ...]] = dict.fromkeys(PATIENT_FIELDS, ()) if self.age_and_sex else {}
        return {"left": image, "right": image, "left_present": (), "right_present": ()} | patient

    def graph_outputs(self) -> dict[str, tuple[int | None, ...]]:
        """Return {name: shape without the batch axis} of the graph's outputs."""
        shapes: dict[str, tuple[int | None, ...]] = {name: (size,) for name, size in self.outputs.items()}
        maps = {MAPS: (None, None, self.outputs[self.decides])} if self.map_layer else {}
        return shapes | {FEATURES: (self.width,)} | maps


def write_export(folder: str | os.PathLike, export: Export) -> None:
    """Write the description of an export into its folder."""
    write_json(pathlib.Path(folder) / EXPORT, {"version": _VERSION, **dataclasses.asdict(export)})


def read_export(folder: str | os.PathLike) -> Export | None:
    """Read the description of an export.

    Returns:
        The Export; None if the folder has none.

    Raises:
        UserError: the file cannot be read, is of another version, or has a value that an export cannot have.
    """
    path = pathlib.Path(folder) / EXPORT
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields.pop("version")
        if version != _VERSION:
            raise ValueError(f"its version is {version!r}, not {_VERSION}")
        export = Export(**fields)
        _check(export)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be used: {printable(str(error))}") from None
    return export


def _check(export):
    if export.format not in FORMATS:
        raise ValueError(f"unknown format {export.format!r}; known: {', '.join(FORMATS)}")
    counts = [export.image_size, export.width, export.ensemble, *export.outputs.values()]
    texts = [export.description, export.map_layer, export.quantized, export.decides, *export.outputs]
    if not all(type(value) is int for value in counts) or not all(type(text) is str for text in texts):
        raise ValueError("a count or a name has the wrong type")
    if export.image_size not in _SIDES or not all(0 <= count <= _MAX_WIDTH for count in counts):
        raise ValueError("a size is out of range")
    if type(export.paired) is not bool or type(export.age_and_sex) is not bool or export.decides not in export.outputs:
        raise ValueError("its inputs or outputs are incomplete")


def check_heads(export: Export, heads: Any, path: str | os.PathLike) -> None:
    """Check that an export has the number of logits that the heads of its decision rule need.

    Args:
        export: of the network.
        heads: {output: head} of the rule.
        path: of the export's folder, for the message.

    Raises:
        UserError: an output has another number of logits.
    """
    for name, head in heads.items():
        if export.outputs.get(name) != head.outputs:
            found = export.outputs.get(name, "none")
            raise UserError(
                f"{path}: the output {name!r} has {found} logits, its head {head.name} needs {head.outputs}"
            )
