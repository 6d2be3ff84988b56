"""Every wrong value of a config is one line with the parameter, the value and what is expected."""

import pathlib
import re
import tempfile
import typing
import unittest

import pytest

from dr_tf import configuration
from dr_tf.console import UserError
from dr_tf.data.sampling import Sampling
from dr_tf.models.heads.head import Head
from dr_tf.models.paired import FUSIONS
from dr_tf.parameters import Count, Share, annotations_of, describe
from dr_tf.training.optimization import OPTIMIZERS

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs/quickstart.gin"
# Parameter -> values that are refused, as a config writes them.
WRONG = {
    "train.epochs": ("'ten'", "-1", "1.5", "None", "True"),
    "train.batch_size": ("'x'", "0", "2.5"),
    "train.validation_batch_size": ("0",),
    "train.checkpoint_every": ("0",),
    "train.steps_per_execution": ("0",),
    "train.seed": ("'a'", "-1"),
    "train.patience": ("0", "1.5"),
    "train.dataset": ("5", "None"),
    "train.heads": ("5", "@softmax()", "{'a': @softmax}", "{'a': 5}", "{}"),
    "train.loss_weights": ("3", "{'referable': -1}", "{'other': 1}"),
    "train.decides": ("3", "'other'"),
    "train.model": ("3", "@classifier()"),
    "train.optimization": ("3", "@optimization"),
    "train.sampling": ("'shuffled'", "@shuffled"),
    "train.augmentation": ("'yes'", "@augmentation"),
    "train.feature_bank": ("3",),
    "train.keep": ("'worst'",),
    "train.monitor": ("'auroc'", "('val_auroc', 'up')", "('val_other', 'max')"),
    "train.modes": ("'tta4'", "('tta3',)"),
    "train.precision": ("'float64'",),
    "train.jit": ("'yes'",),
    "train.distribution": ("'cloud'",),
    "train.cache": ("'ram'",),
    "train.prior": ("2", "'mine'", "{'other': 1.0}"),
    "train.operating_point": ("'x'", "3"),
    "train.class_weights": ("'equal'", "(1, -1)", "3"),
    "train.nothing": ("3",),
    "optimization.learning_rate": ("-1", "'fast'", "None", "1e999"),
    "optimization.optimizer": ("'adamax'",),
    "optimization.decay": ("'linear'",),
    "optimization.warmup_epochs": ("-1",),
    "optimization.final_rate": ("3",),
    "optimization.weight_decay": ("-1",),
    "optimization.clip_norm": ("-1", "0"),
    "optimization.accumulation_steps": ("0", "1.5"),
    "optimization.ema": ("2", "1"),
    "optimization.momentum": ("2",),
    "optimization.backbone_rate": ("-1",),
    "optimization.stage_decay": ("0",),
    "backbone.name": ("3", "'resnet51'"),
    "backbone.image_size": ("0", "-3", "'big'", "100000", "None"),
    "backbone.weights": ("3",),
    "backbone.trainable_from": ("'x'", "3"),
    "backbone.freeze_batch_norm": ("'no'",),
    "backbone.stem": ("'a'", "-4"),
    "backbone.filters": ("8", "(8, 0)"),
    "backbone.blocks": ("0",),
    "backbone.other": ("1",),
    "classifier.backbone": ("'resnet'", "@backbone"),
    "classifier.hidden": ("3", "(0,)"),
    "classifier.dropout": ("1", "-0.1", "'a'"),
    "binary.positive": ("'x'", "3"),
    "binary.label_smoothing": ("2",),
    "binary.focal_gamma": ("-1",),
    "augmentation.warp": ("5", "@warp"),
    "warp.rotation": ("'a'", "(1, 2, 3)"),
    "warp.zoom": ("(0, 1)", "(2, 1)"),
    "warp.flip_horizontal": ("2",),
    "warp.probability": ("-1",),
}
WRONG_DECODER = {
    "fcn_classifier.filters": ("8", "(8, 0)", "()", "(8, 8, 8, 8, 8, 8, 8, 8)"),
    "fcn_classifier.skips": ("'no'",),
    "fcn_classifier.cbam": ("1",),
    "fcn_classifier.reduction": ("0",),
    "fcn_classifier.dropout": ("1",),
}
DECODER = ("train.model = @fcn_classifier", "fcn_classifier.backbone = @backbone()")


def build(*bindings):
    """Build everything of an experiment that needs no records."""
    configuration.parse([CONFIG], bindings)
    experiment = configuration.build("train")
    experiment.model(heads=experiment.heads)
    experiment.optimization.build(steps_per_epoch=2, epochs=2)


class WrongValueTest(unittest.TestCase):
    def test_the_config_itself_is_right(self):
        build()

    def test_each_is_one_line_that_names_the_parameter_or_the_value(self):
        for parameter, values in WRONG.items():
            for value in values:
                with self.subTest(f"{parameter} = {value}"):
                    with self.assertRaises(UserError) as caught:
                        build(f"{parameter} = {value}")
                    line = str(caught.exception).splitlines()[0]
                    words = (parameter, parameter.split(".")[1], *re.findall(r"'\w+'", value), "classifier needs")
                    self.assertTrue(any(word in line for word in words), line)

    def test_of_heads_that_the_config_does_not_use(self):
        for binding in (
            "coral.importance_weights = 2",
            "coral.importance_weights = (1, 2, 0, 1)",
            "coral.importance_weights = (1, 2)",
            "coral.label_smoothing = 1",
            "corn.importance_weights = 'a'",
            "regression.huber_delta = 0",
        ):
            parameter = binding.split(" ")[0]
            with self.subTest(binding), self.assertRaisesRegex(UserError, parameter):
                build(f"train.heads = {{'referable': @{parameter.split('.')[0]}()}}", binding)

    @pytest.mark.slow
    def test_of_the_decoder(self):
        for parameter, values in WRONG_DECODER.items():
            for value in values:
                with self.subTest(f"{parameter} = {value}"), self.assertRaisesRegex(UserError, parameter):
                    build(*DECODER, f"{parameter} = {value}")

    def test_a_config_that_includes_itself(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "me.gin"
            path.write_text(f"include '{path}'\n")
            with self.assertRaisesRegex(UserError, "includes itself"):
                configuration.parse([path])

    def test_the_line_says_what_is_expected(self):
        for binding, expected in {
            "train.epochs = 'ten'": "train.epochs must be an integer, at least 0, not 'ten'",
            "train.keep = 'worst'": "train.keep must be 'best' or 'last', not 'worst'",
            "train.optimization = @optimization": "with brackets, not @optimization",
            "train.patience = 0": "train.patience must be an integer, at least 1, or None, not 0",
        }.items():
            with self.assertRaises(UserError) as caught:
                build(binding)
            self.assertIn(expected, str(caught.exception).splitlines()[0])


class AnnotationTest(unittest.TestCase):
    def test_every_parameter_is_annotated(self):
        for name, configurable in configuration.CONFIGURABLES.items():
            with self.subTest(name):
                self.assertNotIn("any value", [describe(a) for p, a in annotations_of(configurable).items() if p not in
                                               ("heads", "options", "return")])  # fmt: skip

    def test_choices_are_those_of_the_registries(self):
        choices = {
            ("optimization", "optimizer"): OPTIMIZERS,
            ("paired_classifier", "fuse"): FUSIONS,
        }
        for (name, parameter), registry in choices.items():
            annotation = annotations_of(configuration.CONFIGURABLES[name])[parameter]
            self.assertEqual(list(typing.get_args(annotation)), list(registry))

    def test_words(self):
        for annotation, expected in {
            Count: "an integer, at least 1",
            Share | None: "a number, at least 0, at most 1, or None",
            tuple[str, ...]: "a list, each a text",
            dict[str, Head]: "{text: object such as @softmax()}",
            Sampling: "an object such as @shuffled()",
        }.items():
            self.assertEqual(describe(annotation), expected)


if __name__ == "__main__":
    unittest.main()
