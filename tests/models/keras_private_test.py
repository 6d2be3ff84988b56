"""Private names of Keras are used in one module only, and the installed Keras has all of them."""

import ast
import pathlib
import re
import unittest

import keras

from dr_tf.models import keras_private

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = pathlib.Path(keras_private.__file__)
EXEMPT = ROOT / "dr_tf/explain"
# Not of Keras: documented names of os and of named tuples, an attribute of keras_cv (archived), the API of TFDS builders,
# and the names of a LiteRT file's operators.
ALLOWED = {
    ("os", "_exit"),
    ("row", "_replace"),
    ("layer", "_random_generator"),
    ("super()", "_generate_splits"),
    ("self._interpreter", "_get_ops_details"),
}


def _owners():
    """{private name: an object of Keras that must have it}."""
    number, layer = keras.Input((1,)), keras.layers.Dense(1)
    model = keras.Model(number, layer(number))
    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build(model.trainable_variables)
    return {
        "_flatten_layers": layer,
        "_keras_history": model.output,
        "_inbound_nodes": layer,
        "_nodes_by_depth": model,
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
    return [path for path in files if path != MODULE and EXEMPT not in path.parents]


def _is_private(name):
    return bool(re.fullmatch(r"_[a-z]\w*", name))


def _attributes(path):
    """Yield (owner, private name, line) of each attribute `owner._name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield ast.unparse(node.value), node.attr, node.lineno


def _names(path):
    """Yield (name, line) of all that may refer to a name of Keras: attributes, functions, and strings for getattr."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


class KerasPrivateTest(unittest.TestCase):
    def test_no_private_attribute_of_other_objects_elsewhere(self):
        found = [
            f"{path.relative_to(ROOT)}:{line}: {owner}.{name}"
            for path in _modules()
            for owner, name, line in _attributes(path)
            if owner not in ("self", "cls") and (owner, name) not in ALLOWED
        ]
        self.assertEqual(found, [])

    def test_no_listed_name_in_methods_and_strings_elsewhere(self):
        listed = set(_owners())
        found = [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for path in _modules()
            for name, line in _names(path)
            if name in listed
        ]
        self.assertEqual(found, [])

    def test_keras_has_the_listed_names(self):
        for name, owner in _owners().items():
            self.assertTrue(hasattr(owner, name), f"Keras {keras.__version__}: {type(owner).__name__} has no {name}")

    def test_every_private_name_is_documented(self):
        tree = ast.parse(MODULE.read_text(encoding="utf-8"))
        used = {name for _, name, _ in _attributes(MODULE)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_private(node.name)}
        self.assertEqual(used, set(_owners()))
        docstrings = " ".join(ast.get_docstring(node) for node in tree.body if hasattr(node, "body"))
        for name in used:
            self.assertIn(f"`{name}", docstrings)

    def test_keras_is_bounded_above_by_the_minor_version_after_the_one_here(self):
        bounds = re.search(r'"keras>=[\d.]+,<(\d+)\.(\d+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
        major, minor = keras.__version__.split(".")[:2]
        self.assertEqual(bounds.groups(), (major, str(int(minor) + 1)))


if __name__ == "__main__":
    unittest.main()
