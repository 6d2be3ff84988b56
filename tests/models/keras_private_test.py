"""Private names of Keras stand in one module, and the Keras that is installed has them all."""

import ast
import pathlib
import re
import unittest

import keras

from dr_tf.models import keras_private

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = pathlib.Path(keras_private.__file__)
LATER = ROOT / "dr_tf/explain"
# Not of Keras: documented in spite of its name; of keras_cv, which is archived; what builders of TFDS are built by.
ALLOWED = {("os", "_exit"), ("layer", "_random_generator"), ("super()", "_generate_splits")}


def _things():
    """{private name: a thing of Keras that must have it}."""
    number, layer = keras.Input((1,)), keras.layers.Dense(1)
    model = keras.Model(number, layer(number))
    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build(model.trainable_variables)
    return {
        "_flatten_layers": layer,
        "_keras_history": model.output,
        "_inbound_nodes": layer,
        "_tracker": layer,
        "_symbolic_build": model,
        "_maybe_symbolic_build": model,
        "_all_reduce_sum_gradients": optimizer,
        "_model_variables_moving_average": optimizer,
        "_get_variable_index": optimizer,
        "_apply_weight_decay": optimizer,
    }


def _modules():
    files = [
        *ROOT.glob("dr_tf/**/*.py"),
        *ROOT.glob("tfrecords_builder/**/*.py"),
        ROOT / "train.py",
        ROOT / "evaluate.py",
    ]
    return [path for path in files if path != LIST and LATER not in path.parents]


def _is_private(name):
    return bool(re.fullmatch(r"_[a-z]\w*", name))


def _attributes(path):
    """(what stands before the point, private name, line) of each `x._name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield ast.unparse(node.value), node.attr, node.lineno


def _named(path):
    """(name, line) of all that could be meant for a name of Keras: attributes, methods, strings as getattr takes them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


class KerasPrivateTest(unittest.TestCase):
    def test_nothing_private_of_others_is_touched_elsewhere(self):
        found = [
            f"{path.relative_to(ROOT)}:{line}: {owner}.{name}"
            for path in _modules()
            for owner, name, line in _attributes(path)
            if owner not in ("self", "cls") and (owner, name) not in ALLOWED
        ]
        self.assertEqual(found, [])

    def test_nor_by_way_of_a_subclass_or_a_string(self):
        listed = set(_things())
        found = [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for path in _modules()
            for name, line in _named(path)
            if name in listed
        ]
        self.assertEqual(found, [])

    def test_keras_has_what_is_listed(self):
        for name, thing in _things().items():
            self.assertTrue(hasattr(thing, name), f"Keras {keras.__version__} has no {name} of {type(thing).__name__}")

    def test_the_list_is_whole_and_each_name_is_explained(self):
        tree = ast.parse(LIST.read_text(encoding="utf-8"))
        used = {name for _, name, _ in _attributes(LIST)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_private(node.name)}
        self.assertEqual(used, set(_things()))
        explain_crops = " ".join(ast.get_docstring(node) for node in tree.body if hasattr(node, "body"))
        for name in used:
            self.assertIn(f"`{name}", explain_crops)

    def test_keras_is_bounded_above_by_the_minor_version_after_the_one_here(self):
        asked = re.search(r'"keras>=[\d.]+,<(\d+)\.(\d+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
        major, minor = keras.__version__.split(".")[:2]
        self.assertEqual(asked.groups(), (major, str(int(minor) + 1)))


if __name__ == "__main__":
    unittest.main()
