"""Backbones: assembly, stages, freezing, saving, and agreement with Keras and keras-hub."""

import collections
import os
import pathlib
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.applications.convnext import StochasticDepth

from dr_tf.console import UserError
from dr_tf.models.backbones import BACKBONES, build_backbone
from dr_tf.models.backbones.applications import APPLICATIONS
from dr_tf.models.backbones.backbone import Body, assemble
from dr_tf.models.classifier import classifier
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.layers.batch_normalization import FusedBatchNormalization
from dr_tf.models.layers.pointwise import SteppedConv2D
from dr_tf.models.layers.replace_layers import to_plain_keras, to_project_layers
from dr_tf.models.stages import feature_maps, stage_by_variable, stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
LITE = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "presets/efficientnet_lite0_imagenet"

BINARY, GRADES = {"any_dr": Binary()}, {"grade": Softmax()}


def random_images(side, n=2):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


def body(side=16):
    """Three stages with everything that changes in training: weights, statistics, dropout, stochastic depth."""
    x = photograph = keras.Input((side, side, 3))
    ends = {}
    for stage in ("low", "middle", "high"):
        x = layers.Conv2D(4, 3, 2, padding="same", name=f"{stage}_conv")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"{stage}_bn")(x)
        x = layers.Dropout(0.5, name=f"{stage}_dropout")(x)
        x = layers.Add(name=f"{stage}_add")([x, StochasticDepth(0.5, name=f"{stage}_depth")(x)])
        ends[stage] = x
    pooled = layers.GlobalAveragePooling2D()(x)
    return Body(keras.Model(photograph, pooled), ends, [layers.Rescaling(1 / 255, dtype="float32")])


def whole(trainable_from="all"):
    return classifier(assemble("small", body(), image_size=16, trainable_from=trainable_from), BINARY)


def _values(model):
    return {v.path: v.numpy() for v in model.weights}


def _moved(model):
    """Paths of the weights that training has changed."""
    before = _values(model)
    model.compile(keras.optimizers.SGD(1.0), {"any_dr": Binary().loss()}, run_eagerly=True)
    targets = {"any_dr": np.float32([0, 1] * 4)[:, None]}
    model.fit(random_images(16, 8), targets, batch_size=4, epochs=2, verbose=0)
    return {path for path, values in _values(model).items() if not np.array_equal(values, before[path])}


def save_and_load(test, model):
    path = f"{test.get_temp_dir()}/model.keras"
    to_plain_keras(model).save(path)
    return keras.saving.load_model(path, safe_mode=True)


class AssembledTest(tf.test.TestCase):
    def test_same_features_as_the_body_on_normalized_images(self):
        made = body()
        backbone = assemble("small", made, image_size=16)
        x = random_images(16)
        self.assertAllClose(backbone.model(x)["pooled"], made.model(x / np.float32(255)), atol=1e-6)

    def test_maps_by_stride_and_stages_in_order(self):
        backbone = assemble("small", body(), image_size=16)
        shapes = {name: tensor.shape[1:] for name, tensor in backbone.model.output.items()}
        self.assertEqual(shapes, {"stride_2": (8, 8, 4), "stride_4": (4, 4, 4), "stride_8": (2, 2, 4), "pooled": (4,)})
        self.assertEqual(list(backbone.stages), ["low", "middle", "high", "pooled"])
        self.assertIn(backbone.model.get_layer("middle_conv"), backbone.stages["middle"])

    def test_stage_of_every_variable(self):
        model = whole()
        stage_of = stage_by_variable(model)
        self.assertEqual(stage_of["low_conv/kernel"], "low")
        self.assertEqual(stage_of["high_bn/moving_mean"], "high")
        self.assertEqual(list(dict.fromkeys(stage_of.values())), ["low", "middle", "high"])
        self.assertEqual({v.path for v in model.variables} - set(stage_of), {"any_dr/kernel", "any_dr/bias"})

    def test_stages_of_a_shared_network(self):
        inner = assemble("small", body(), image_size=16).model
        eyes = [keras.Input((16, 16, 3)) for _ in range(2)]
        both = keras.Model(eyes, layers.Concatenate()([inner(eye)["pooled"] for eye in eyes]))
        self.assertEqual(list(stages(both)), ["low", "middle", "high", "pooled"])
        self.assertEqual(stage_by_variable(both)["middle_conv/kernel"], "middle")

    def test_two_builds_have_the_same_variable_names(self):
        self.assertEqual([v.path for v in whole().trainable_variables], [v.path for v in whole().trainable_variables])


class ProjectLayersTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_a_training_step_runs_them_everywhere(self):
        model = classifier(build_backbone("resnet_v2", image_size=64), GRADES)
        counts = _operations_of_a_step(model)
        self.assertEqual((counts["FusedBatchNormV3"], counts["FusedBatchNormGradV3"]), (10, 10))
        self.assertEqual(counts["AvgPool"], 3)  # before the convolution of each block's shortcut
        self.assertEqual(_operations_of_a_step(to_plain_keras(model))["FusedBatchNormV3"], 0)

    def test_a_training_step_gives_the_same_weights_as_keras_layers(self):
        keras.utils.set_random_seed(0)
        model = classifier(build_backbone("resnet_v2", image_size=64), GRADES)
        other = to_plain_keras(model)
        # The gradient of Keras' strided 1x1 convolution must not be run.
        other = keras.models.clone_model(other, clone_function=_only_stepped)
        other.set_weights(model.get_weights())
        x, y = random_images(64, 4), np.array([0, 1, 2, 3])
        self.assertAllEqual(model(x)["grade"], other(x)["grade"])
        gradients = [_gradients(network, x, y) for network in (model, other)]
        for one, of_keras in zip(*gradients, strict=True):
            self.assertAllClose(one, of_keras, rtol=1e-4, atol=1e-5)
        for network in (model, other):
            network.compile(keras.optimizers.SGD(0.1), {"grade": Softmax().loss()}, jit_compile=False)
            network.train_on_batch(x, {"grade": Softmax().targets({"grade": y})})
        self.assertEqual([v.path for v in model.variables], [v.path for v in other.variables])
        for one, of_keras in zip(model.weights, other.weights, strict=True):
            self.assertAllClose(one, of_keras, rtol=1e-4, atol=1e-5)


def _only_stepped(layer):
    kind = SteppedConv2D if SteppedConv2D.replaces(layer) else type(layer)
    assert kind is not FusedBatchNormalization
    return kind.from_config(layer.get_config())


def _gradients(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True)["grade"]))
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


def _operations_of_a_step(model):
    """{type of operation: count} in the graph that `fit` runs."""
    model.compile("sgd", {"grade": Softmax().loss()}, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    batch = random_images(64), {"grade": Softmax().targets({"grade": np.array([0, 1])})}
    graph = tf.function(model.train_step).get_concrete_function(batch).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return collections.Counter(node.op for node in nodes)


class FrozenTest(tf.test.TestCase):
    def test_completely_frozen(self):
        model = assemble("small", body(), image_size=16, trainable_from="none").model
        x = random_images(16)
        before = model.get_weights()
        self.assertAllEqual(model(x, training=True)["pooled"], model(x, training=False)["pooled"])
        for one, other in zip(before, model.get_weights(), strict=True):
            self.assertAllEqual(one, other)
        self.assertEmpty(model.trainable_variables)

    def test_trainable_from_a_stage(self):
        model = whole(trainable_from="middle")
        self.assertEqual(
            {v.path.split("_")[0] for v in model.trainable_variables},
            {"middle", "high", "any"},
        )
        low, middle = (keras.Model(model.input, feature_maps(model)[name]) for name in ("stride_2", "stride_4"))
        x = random_images(16)
        self.assertAllEqual(low(x, training=True), low(x, training=False))
        self.assertNotAllClose(middle(x, training=True), middle(x, training=False))

    def test_batch_norm_alone(self):
        model = classifier(assemble("small", body(), image_size=16, freeze_batch_norm=True), BINARY)
        self.assertEqual(_moved(model), {path for path in _values(model) if "_bn/" not in path})

    def test_frozen_weights_do_not_change(self):
        moved = _moved(whole(trainable_from="high"))
        self.assertEqual({path.split("_")[0] for path in moved}, {"high", "any"})
        self.assertIn("high_bn/moving_variance", moved)

    def test_saved_network_is_still_frozen(self):
        loaded = save_and_load(self, whole(trainable_from="none"))
        x = random_images(16)
        self.assertAllEqual(loaded(x, training=True)["any_dr"], loaded(x)["any_dr"])
        self.assertLen(loaded.trainable_variables, 2)

    def test_unknown_stage(self):
        with self.assertRaisesRegex(UserError, "unknown stage 'conv5'.*: all, none, low, middle, high, pooled"):
            assemble("small", body(), image_size=16, trainable_from="conv5")


class SavedTest(tf.test.TestCase):
    def test_feature_maps_stages_and_layers(self):
        model = classifier(build_backbone("resnet_v2", image_size=64), GRADES, hidden=(8,), dropout=0.3)
        loaded = save_and_load(self, model)
        self.assertEqual(list(feature_maps(loaded)), ["stride_4", "stride_8", "stride_16", "stride_32"])
        self.assertEqual(stage_by_variable(loaded), stage_by_variable(model))
        x = random_images(64)
        self.assertAllClose(loaded.predict(x, verbose=0)["grade"], model.predict(x, verbose=0)["grade"], atol=1e-6)
        self.assertAllClose(to_project_layers(loaded)(x)["grade"], model(x)["grade"], atol=1e-6)
        for layer in loaded.layers:
            self.assertTrue(type(layer).__module__.startswith("keras."), layer)

    def test_cut_at_a_feature_map(self):
        model = save_and_load(self, whole())
        tensor = feature_maps(model)["stride_8"]
        logits = model.output["any_dr"]
        below, above = keras.Model(model.input, [tensor, logits]), keras.Model(tensor, logits)
        x = random_images(16)
        feature_map, logits = below(x)
        self.assertAllClose(above(feature_map), logits, atol=1e-6)
        with tf.GradientTape() as tape:
            tape.watch(feature_map)
            output = above(feature_map)
        self.assertAllGreater(tf.reduce_max(tf.abs(tape.gradient(output, feature_map))), 0)


class ResNetV2Test(tf.test.TestCase):
    def test_parameter_count(self):
        """Convolutions 2352 + (2304 + 2304 + 256) + (4608 + 9216 + 512) + (18432 + 36864 + 2048) = 78896, and 4 for each of
        256 channels of batch norm; two classes add 2 * 64 + 2."""
        backbone = build_backbone("resnet_v2", image_size=256)
        self.assertEqual(backbone.model.count_params(), 78896 + 4 * 256)
        self.assertEqual(classifier(backbone, BINARY).count_params(), 79920 + 65)
        shapes = {name: tensor.shape[1:] for name, tensor in backbone.model.output.items()}
        self.assertEqual(shapes["stride_4"], (64, 64, 16))
        self.assertEqual(shapes["stride_32"], (8, 8, 64))
        self.assertEqual(shapes["pooled"], (64,))

    def test_relu_after_the_pool_equals_relu_before_it(self):
        """The only difference from the published order of layers."""
        pool, relu = layers.MaxPooling2D(3, 2, padding="same"), layers.ReLU()
        x, weights = (tf.random.stateless_normal((2, 9, 9, 3), [0, i]) for i in range(2))
        results = []
        for first, second in ((relu, pool), (pool, relu)):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = second(first(x))
                total = tf.reduce_sum(y * weights[:, :5, :5])
            results.append((y, tape.gradient(total, x)))
        self.assertAllEqual(*(y for y, _ in results))
        self.assertAllEqual(*(gradient for _, gradient in results))

    def test_order_of_layers(self):
        backbone = build_backbone("resnet_v2", image_size=64)
        kinds = [type(layer).__name__ for layer in backbone.stages["stem"][1:]]
        self.assertEqual(kinds, ["Rescaling", "Conv2D", "FusedBatchNormalization", "MaxPooling2D", "ReLU"])
        block = [layer.name.removeprefix("stack1_block1_") for layer in backbone.stages["stack1"]]
        self.assertLess(block.index("pre_bn"), block.index("conv1"))
        self.assertLess(block.index("skip_bn"), block.index("skip_conv"))
        self.assertEqual(backbone.stages["stack3"][-1].name, "relu")

    def test_longer_and_wider(self):
        backbone = build_backbone("resnet_v2", image_size=64, stem=8, filters=(8, 8, 24, 32), blocks=2)
        self.assertEqual(list(backbone.stages), ["stem", "stack1", "stack2", "stack3", "stack4", "pooled"])
        self.assertEqual(backbone.model.output["stride_64"].shape[1:], (1, 1, 32))

    def test_no_pretrained_weights(self):
        with self.assertRaisesRegex(UserError, "resnet_v2 has no pretrained weights"):
            build_backbone("resnet_v2", image_size=64, weights="imagenet")

    def test_float16(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = classifier(build_backbone("resnet_v2", image_size=32), GRADES)
        self.assertEqual(feature_maps(model)["stride_32"].dtype, "float16")
        self.assertEqual(model.output["grade"].dtype, "float32")
        self.assertEqual(model.get_layer("normalization").compute_dtype, "float32")


class MistakesTest(tf.test.TestCase):
    def test_unknown_names(self):
        with self.assertRaisesRegex(UserError, "unknown backbone 'resnet34'; known: .*resnet50, .*resnet_v2"):
            build_backbone("resnet34", image_size=64)
        with self.assertRaisesRegex(UserError, "resnet_v2 has no option width; it has blocks, filters, momentum, stem"):
            build_backbone("resnet_v2", image_size=64, width=3)

    def test_missing_files_and_folders(self):
        with self.assertRaisesRegex(UserError, "no such weights file: /nowhere.h5"):
            build_backbone("resnet50", image_size=64, weights="/nowhere.h5")
        with self.assertRaisesRegex(UserError, "/nowhere/preset is neither a folder nor a preset"):
            build_backbone("keras_hub", image_size=64, weights="/nowhere/preset")
        with self.assertRaisesRegex(UserError, "needs weights"):
            build_backbone("keras_hub", image_size=64)

    def test_folder_that_is_no_preset(self):
        with self.assertRaisesRegex(UserError, "not a complete keras-hub preset"):
            build_backbone("keras_hub", image_size=64, weights=self.get_temp_dir())

    @pytest.mark.slow
    def test_message_without_a_connection(self):
        def no_connection(name, origin, **_):
            raise Exception(f"URL fetch failure on {origin}: None -- Name or service not known")

        with tf.compat.v1.test.mock.patch("keras.src.utils.file_utils.get_file", no_connection):
            for name, file in {
                "mobilenet_v2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                "efficientnet_b0": "efficientnetb0_notop.h5",
            }.items():
                with self.assertRaisesRegex(
                    UserError, f"copy {file} from https.* to ~/.keras/models, or set weights to its path"
                ):
                    build_backbone(name, image_size=224, weights="imagenet")


@pytest.mark.slow
class ApplicationsTest(tf.test.TestCase):
    NAMES = (
        "resnet50",
        "resnet50_v2",
        "densenet121",
        "mobilenet_v2",
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "convnext_tiny",
    )
    PREPROCESSING: ClassVar = {
        "resnet50": "resnet",
        "resnet50_v2": "resnet_v2",
        "densenet121": "densenet",
        "mobilenet_v2": "mobilenet_v2",
    }

    def test_same_features_as_keras(self):
        """With weights from a file. Those of ResNet50 expect BGR."""
        for name in self.NAMES:
            with self.subTest(name):
                constructor = getattr(keras.applications, APPLICATIONS[name].constructor)
                original = constructor(include_top=False, weights=None, pooling="avg", input_shape=(64, 64, 3))
                path = f"{self.get_temp_dir()}/{name}.weights.h5"
                original.save_weights(path)
                backbone = build_backbone(name, image_size=64, weights=path)
                x = random_images(64).astype(np.float32)
                module = self.PREPROCESSING.get(name)
                prepared = getattr(keras.applications, module).preprocess_input(x.copy()) if module else x
                expected = original(prepared).numpy()
                self.assertAllClose(backbone.model(x)["pooled"], expected, atol=1e-4 * np.abs(expected).max())

    def test_stages_maps_frozen_and_saved(self):
        for name in self.NAMES:
            with self.subTest(name):
                model = classifier(build_backbone(name, image_size=64, trainable_from="none"), BINARY)
                maps = feature_maps(model)
                self.assertContainsSubset({"stride_4", "stride_8", "stride_16", "stride_32"}, set(maps))
                for stride, tensor in maps.items():
                    self.assertEqual(tensor.shape[1], 64 // int(stride.removeprefix("stride_")))
                    keras.Model(tensor, model.output)  # raises if a path bypasses the map
                x = random_images(64)
                self.assertAllEqual(model(x, training=True)["any_dr"], model(x, training=False)["any_dr"])
                self.assertLen(model.trainable_variables, 2)
                self.assertLen({v.path for v in model.weights} - set(stage_by_variable(model)), 2)
                loaded = save_and_load(self, model)
                self.assertAllClose(loaded(x)["any_dr"], model(x)["any_dr"], atol=1e-5)
                self.assertEqual(list(feature_maps(loaded)), list(maps))
                self.assertFalse([layer for layer in loaded.layers if isinstance(layer, layers.Lambda)])


@pytest.mark.slow
class EveryApplicationTest(tf.test.TestCase):
    def test_stages_of_all_applications(self):
        """Without memory for weights: in this scope variables have only a shape."""
        for name in set(APPLICATIONS) - set(ApplicationsTest.NAMES):
            with self.subTest(name), keras.StatelessScope():
                self.assertIn(name, BACKBONES)
                made = BACKBONES[name](image_size=64)
                self.assertEqual(next(iter(made.ends)), "stem")
                self.assertEqual(
                    [t.shape[1] for t in made.ends.values()],
                    sorted((t.shape[1] for t in made.ends.values()), reverse=True),
                )


class PresetTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        if not LITE.is_dir():
            self.skipTest(f"no preset at {LITE}")

    def test_same_features_as_keras_hub_and_frozen_stages(self):
        import keras_hub

        backbone = build_backbone("keras_hub", image_size=65, weights=str(LITE), trainable_from="P5")
        shapes = {name: tensor.shape[1:] for name, tensor in backbone.model.output.items()}
        self.assertEqual(
            (shapes["stride_8"], shapes["stride_32"], shapes["pooled"]), ((9, 9, 40), (3, 3, 1280), (1280,))
        )
        x = random_images(65)
        original = keras_hub.models.Backbone.from_preset(str(LITE))
        self.assertAllClose(backbone.model(x)["stride_32"], original((x.astype(np.float32) - 127) / 128), atol=1e-5)
        self.assertTrue(all(path.startswith(("block6", "block7", "top")) for path in
                            (v.path for v in backbone.model.trainable_variables)))  # fmt: skip

    def test_given_mean_and_std_and_those_of_a_preset(self):
        import keras_hub

        folder = f"{self.get_temp_dir()}/preset"
        small = keras_hub.models.ResNetBackbone(
            input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block",
            use_pre_activation=True,
        )  # fmt: skip
        small.save_to_preset(folder)
        with self.assertRaisesRegex(UserError, "does not contain its normalization; set mean and std"):
            build_backbone("keras_hub", image_size=32, weights=folder)
        x = random_images(32).astype(np.float32)
        mean, std = np.float32([120, 110, 100]), np.float32([50, 60, 70])
        given = build_backbone("keras_hub", image_size=32, weights=folder, mean=mean.tolist(), std=std.tolist())
        self.assertAllClose(given.model(x)["stride_8"], small((x - mean) / std), atol=1e-4)
        keras_hub.layers.ResNetImageConverter(scale=1 / 50, offset=-2.0).save_to_preset(folder)
        own = build_backbone("keras_hub", image_size=32, weights=folder)
        self.assertAllClose(own.model(x)["stride_8"], small(x / 50 - 2), atol=1e-4)


if __name__ == "__main__":
    tf.test.main()
