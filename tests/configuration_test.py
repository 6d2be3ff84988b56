"""Config files: shipped ones are built, errors are one line, and bindings override files."""

import pathlib
import tempfile

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf import configuration
from dr_tf.console import UserError
from dr_tf.grades import GRADES
from dr_tf.training.grid import as_gin
from dr_tf.training.optimization import Optimization

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
CLIP = pathlib.Path(__file__).parent / "models/fixtures/clip"
# Configs whose large backbone another config builds, too.
SAME_BACKBONE = {
    "aptos_fcn_clip_cbam_weighted",
    "aptos_ranking_clip",
    "aptos_zero_shot_clip",
    "odir_dual_eye_published",
}
COMPLETE = [CONFIGS / "quickstart.gin", *sorted((CONFIGS / "experiments").glob("*.gin"))]


def without_download(path, preset):
    """Bindings that replace the pretrained weights of a config by random ones."""
    configuration.parse([path])
    if "backbone.weights" not in gin.config_str():
        return []
    name = gin.query_parameter("backbone.name")
    if name == "clip_vit":
        # Its embeddings have 12 numbers, and its prompts at most 32 tokens of few letters each.
        prompts = {grade: [grade] for grade in GRADES}
        return [f"PRESET = '{CLIP}'", "classifier.projection = 12", f"GRADE_PROMPTS = {prompts}"]
    return [f"PRESET = '{preset}'" if name == "keras_hub" else "backbone.weights = None"]


def small_preset(folder):
    """A preset of a small EfficientNet-Lite with maps of strides 2 to 16 and random weights."""
    import keras_hub

    keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 4, stackwise_depth_coefficients=[1.0] * 4, stackwise_kernel_sizes=[3] * 4,
        stackwise_num_repeats=[1] * 4, stackwise_input_filters=[8, 8, 16, 16], stackwise_output_filters=[8, 16, 16, 16],
        stackwise_expansion_ratios=[1, 2, 2, 2], stackwise_squeeze_and_excite_ratios=[0] * 4,
        stackwise_strides=[1, 2, 2, 2], stackwise_block_types=["v1"] * 4, min_depth=None, activation="relu6", input_shape=(None, None, 3),
        include_initial_padding=True, use_depth_divisor_as_min_depth=True, cap_round_filter_decrease=True,
        stem_conv_padding="valid", batch_norm_momentum=0.9, batch_norm_epsilon=1e-3,
    ).save_to_preset(folder)  # fmt: skip
    return folder


class ShippedConfigsTest(tf.test.TestCase):
    def test_each_is_parsed_and_built(self):
        self.check([path for path in COMPLETE if path.stem not in SAME_BACKBONE])

    @pytest.mark.slow
    def test_each_with_the_backbone_of_another_is_parsed_and_built(self):
        self.check([path for path in COMPLETE if path.stem in SAME_BACKBONE])

    def check(self, paths):
        preset = small_preset(f"{self.get_temp_dir()}/preset")
        for path in paths:
            with self.subTest(path.name):
                configuration.parse([path], without_download(path, preset))
                experiment = configuration.build("train")
                model = experiment.model(heads=experiment.heads)
                widths = {output: tensor.shape[-1] for output, tensor in model.output.items()}
                self.assertEqual(widths, {output: head.outputs for output, head in experiment.heads.items()})
                optimizer = experiment.optimization.build(steps_per_epoch=3, epochs=2)
                self.assertIsInstance(optimizer, keras.optimizers.Optimizer)

    @pytest.mark.slow
    def test_system_2_takes_a_step_with_random_weights(self):
        configuration.parse([CONFIGS / "experiments" / "kaggle_resnet50.gin"], ["backbone.weights = None"])
        experiment = configuration.build("train")
        model = experiment.model(heads=experiment.heads)
        trained = [variable.path for variable in model.trainable_variables]
        self.assertEqual(trained, ["hidden1/kernel", "hidden1/bias", "any_dr/kernel", "any_dr/bias"])
        before = [variable.numpy() for variable in model.variables]
        (output, head), *_ = experiment.heads.items()
        optimizer = experiment.optimization.build(steps_per_epoch=1, epochs=1)
        model.compile(optimizer, {output: head.loss()}, jit_compile=False)
        images = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), np.uint8)
        model.train_on_batch(images, {output: np.float32([[0], [1]])})
        moved = [not np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True)]
        paths = [variable.path for variable, has in zip(model.variables, moved, strict=True) if has]
        self.assertEqual([path for path in paths if "seed" not in path], trained)

    def test_each_grid_fits_its_experiment(self):
        for path in sorted((CONFIGS / "grids").glob("*.gin")):
            with self.subTest(path.name):
                experiment = next(CONFIGS.glob(f"experiments/{path.name}"), CONFIGS / path.name)
                configuration.parse([experiment, path])
                trials = list(configuration.build("grid").trials())
                self.assertGreater(len(trials), 1)
                for values in trials:
                    configuration.parse([experiment, path], as_gin(values))
                    configuration.build("train")


class ParseTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "a.gin"

    def _refused(self, text, expected, bindings=(), build=None):
        self.path.write_text(text)
        with self.assertRaisesRegex(UserError, expected) as caught:
            configuration.parse([self.path], bindings)
            configuration.build(build or "train")
        self.assertNotIn("\n", str(caught.exception))

    def test_errors_are_one_line(self):
        self._refused("trian.epochs = 1", r"unknown name 'trian' \(file .*a.gin., line 1\); did you mean 'train'\?")
        self._refused("train.epoch = 1", "train has no parameter 'epoch' .* did you mean 'epochs'")
        self._refused("train.heads = {'it': @softmx()}", "unknown name @softmx .* did you mean 'softmax'")
        self._refused("train.epochs = [1", "config: ")
        self._refused("train.epochs == 1", "config: ")
        self._refused("train.epochs = %MANY\ntrain.dataset = 'a'", "%MANY is not set")
        self._refused("optimization.learning_rate = 1", "train needs 'dataset', 'heads', and 'model'")
        self._refused("include 'nowhere.gin'", "nowhere.gin")
        self._refused("", "unknown name 'x'", ["x.y = 1"])
        with self.assertRaisesRegex(UserError, "Unable to open file: nowhere.gin"):
            configuration.parse(["nowhere.gin"])

    def test_bindings_override_files_and_earlier_configs_are_forgotten(self):
        self.path.write_text("optimization.learning_rate = 1.0\noptimization.decay = 'cosine'")
        configuration.parse([self.path], ["optimization.learning_rate = 2.0"])
        self.assertEqual(configuration.build("optimization"), Optimization(learning_rate=2.0, decay="cosine"))
        configuration.parse([], ["optimization.ema = 0.5"])
        self.assertEqual(configuration.build("optimization"), Optimization(ema=0.5))

    def test_the_operative_config_includes_defaults(self):
        configuration.parse([], ["optimization.ema = 0.5"])
        configuration.build("optimization")
        self.assertIn("optimization.ema = 0.5", configuration.operative_config())
        self.assertIn("optimization.learning_rate = 0.001", configuration.operative_config())
