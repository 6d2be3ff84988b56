"""`SavedModelNetwork`: an exported network as a SavedModel, in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.export_file import Export
from dr_tf.inference.exported_network import ExportedNetwork, check_shapes

_VERSION, _SIGNATURE = "1", "serving_default"
# Of the operators with an effect or a state, those that a graph of constants has, and that `tf.saved_model.load` adds.
_ALLOWED = {"Placeholder", "StatefulPartitionedCall", "While", "If", "NoOp", "Assert"}
_FILES = {"ReadFile", "WriteFile", "MatchingFiles", "MergeV2Checkpoints", "SaveV2", "Save", "SaveSlices", "Restore"}
_SAVER = ("__inference__traced_save", "__inference__traced_restore")  # called by nothing but TensorFlow's own saver


class SavedModelNetwork(ExportedNetwork):
    """Runs an export's SavedModel in TensorFlow. Arguments as those of `ExportedNetwork`.

    A SavedModel is a program. It is loaded only if its operators neither have a state nor touch files.

    Raises:
        UserError: the folder cannot be loaded, is not safe, or is another network than its description says.
    """

    runtime = "TensorFlow (SavedModel)"

    def __init__(self, folder: str | os.PathLike, export: Export):
        import tensorflow as tf  # this module can be imported without it, as all of inference can

        super().__init__(folder, export)
        self.path = self.path / _VERSION
        _check_operators(self.path)
        try:
            self._module = tf.saved_model.load(str(self.path))
            self._function = self._module.signatures[_SIGNATURE]
        except Exception as error:  # TensorFlow raises many kinds
            raise UserError(f"{self.path} cannot be loaded by TensorFlow: {str(error).splitlines()[0][:200]}") from None
        check_shapes(self.path, "input", _shapes(self._function.structured_input_signature[1]), export.inputs())
        check_shapes(self.path, "output", _shapes(self._function.structured_outputs), export.graph_outputs())

    def run(self, images: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute some of the outputs."""
        import tensorflow as tf

        results = self._function(**{name: tf.constant(x) for name, x in images.items()})
        return [results[name].numpy() for name in outputs]


def _shapes(specs):
    return {name: spec.shape.as_list() for name, spec in specs.items()}


def _check_operators(path):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        with open(path / "saved_model.pb", "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read as a SavedModel: {error.strerror}") from None
    try:
        graphs = SavedModel.FromString(data).meta_graphs
    except Exception:  # a DecodeError of whichever implementation of Protocol Buffers is installed
        raise UserError(f"{path} cannot be read as a SavedModel: it is damaged") from None
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise UserError(
            f"{path} is refused: TensorFlow 1 wrote it, and loading such a file runs operators of its graph"
        )
    functions = graphs[0].graph_def.library.function
    saver = {f.signature.name for f in functions if f.signature.name.startswith(_SAVER)}
    if named := saver & set(graphs[0].object_graph_def.concrete_functions):
        raise UserError(f"{path} is refused: it offers the function {min(named)} of TensorFlow's own saver")
    for function in functions:
        if function.signature.name not in saver:
            for node in function.node_def:
                _check_node(path, node, saver)


def _check_node(path, node, saver):
    from tensorflow.python.framework import op_def_registry

    called = {attribute.func.name for attribute in node.attr.values() if attribute.HasField("func")}
    called |= {function.name for attribute in node.attr.values() for function in attribute.list.func}
    definition = op_def_registry.get(node.op)
    is_function = definition is None
    stateful = definition is not None and definition.is_stateful and node.op not in _ALLOWED
    if is_function or stateful or node.op in _FILES or called & saver:
        raise UserError(f"{path} is refused: its operator {node.op} may have an effect beyond computing the result")
