"""CLIP's ResNet: agreement with open_clip and timm on stored outputs, and checkpoints that do not fit."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.stages import feature_maps
from tests.models.fixtures.clip_resnet import RN50, STAGES, TINY, images, random_weights

STORED = np.load(pathlib.Path(__file__).parent / "fixtures/clip_resnet.npz")
STRIDES = {"stride_4": "layer1", "stride_8": "layer2", "stride_16": "layer3", "stride_32": "layer4", "pooled": "pooled"}


def checkpoint(path, kind="open_clip", rename=lambda name: name, dtype="float32", drop=()):
    """Write the random weights that the stored outputs were computed with, as safetensors."""
    shapes = {name: [int(side) for side in sides.split(",")] for name, sides in
              (line.split(":") for line in STORED[f"shapes/{kind}"])}  # fmt: skip
    tensors = {rename(name): value.astype(dtype) for name, value in random_weights(shapes).items() if name not in drop}
    return write_safetensors(path, tensors)


def write_safetensors(path, tensors):
    types = {"float32": "F32", "float16": "F16"}
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        offsets = [len(content), len(content) + value.nbytes]
        header[name] = {"dtype": types[value.dtype.name], "shape": list(value.shape), "data_offsets": offsets}
        content += value.tobytes()
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + content)
    return str(path)


def tiny(image_size=64, **options):
    return build_backbone("clip_resnet", image_size=image_size, **TINY, **options)


class ParityTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.get_temp_dir()) / "model.safetensors"

    def test_every_stage_equals_open_clip(self):
        outputs = tiny(weights=checkpoint(self.path)).model(images(64))
        self.assertEqual(set(outputs), set(STRIDES))
        for name, stage in STRIDES.items():
            self.assertAllClose(outputs[name], STORED[f"tiny/{stage}"], rtol=1e-4, atol=1e-4)

    def test_the_stem_equals_open_clip(self):
        model = tiny(weights=checkpoint(self.path)).model
        stem = keras.Model(model.input, model.get_layer("stage_stem").output)
        self.assertAllClose(stem(images(64)), STORED["tiny/stem"], rtol=1e-4, atol=1e-4)

    def test_prefixes_of_published_files(self):
        for prefix in ("visual.", "module.visual."):
            path = checkpoint(self.path, rename=lambda name, prefix=prefix: prefix + name)
            pooled = tiny(weights=path).model(images(64))["pooled"]
            self.assertAllClose(pooled, STORED["tiny/pooled"], rtol=1e-4, atol=1e-4)

    def test_names_and_interpolated_positions_of_timm(self):
        path = checkpoint(self.path, "timm")
        for size, name in ((64, "pooled"), (96, "pooled_of_96")):
            pooled = tiny(image_size=size, weights=path).model(images(size))["pooled"]
            self.assertAllClose(pooled, STORED[f"timm/{name}"], rtol=1e-4, atol=1e-4)

    def test_half_precision(self):
        pooled = tiny(weights=checkpoint(self.path, dtype="float16")).model(images(64))["pooled"]
        self.assertAllClose(pooled, STORED["tiny/pooled"], rtol=0.01, atol=0.05)

    @pytest.mark.slow
    def test_rn50_equals_open_clip(self):
        backbone = build_backbone("clip_resnet", image_size=224, weights=checkpoint(self.path, "rn50"))
        self.assertEqual(backbone.model.output["pooled"].shape, (None, RN50["embedding"]))
        self.assertEqual(backbone.model.output["stride_32"].shape[1:], (7, 7, 2048))
        outputs = backbone.model(images(224)[:1])
        for name, stage in STRIDES.items():
            value = outputs[name].numpy()
            value = value[:, :3, :3, :8] if value.ndim == 4 else value
            self.assertAllClose(value, STORED[f"rn50/{stage}"], rtol=1e-4, atol=1e-4)


class BackboneTest(tf.test.TestCase):
    def test_stages_and_frozen_stages(self):
        backbone = tiny(trainable_from="layer4")
        self.assertEqual(list(backbone.stages), [*STAGES, "pooled"])
        paths = [v.path for v in backbone.model.trainable_variables]
        self.assertTrue(all(path.startswith(("layer4", "attnpool")) for path in paths), paths)

    def test_saved_network_opens_in_plain_keras(self):
        model = classifier(tiny(trainable_from="none"), {"grade": Softmax()})
        path = f"{self.get_temp_dir()}/model.keras"
        to_plain_keras(model).save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        self.assertAllClose(loaded(images(64))["grade"], model(images(64))["grade"], atol=1e-5)
        self.assertEqual(list(feature_maps(loaded)), list(STRIDES)[:4])
        for layer in loaded.layers:
            self.assertTrue(type(layer).__module__.startswith("keras."), layer)

    def test_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        outputs = tiny().model(images(64))
        self.assertEqual(outputs["pooled"].dtype, "float16")
        self.assertAllEqual(np.isfinite(outputs["pooled"]), np.ones((2, 16), bool))


class MistakesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.get_temp_dir()) / "model.safetensors"

    def test_in_one_line(self):
        with self.assertRaisesRegex(UserError, "no such weights file: /nowhere.pt"):
            tiny(weights="/nowhere.pt")
        with self.assertRaisesRegex(UserError, "an even width and images of 32 pixels or more, not 3 and 64"):
            build_backbone("clip_resnet", image_size=64, width=3)
        path = checkpoint(self.path)
        with self.assertRaisesRegex(
            UserError, r"other sizes: conv1/kernel is \[3, 3, 3, 32\] here and \[3, 3, 3, 4\] there"
        ):
            build_backbone("clip_resnet", image_size=64, weights=path)
        with self.assertRaisesRegex(UserError, "no tensor layer1.2.conv1.weight"):
            build_backbone("clip_resnet", image_size=64, weights=path, **TINY | {"blocks": (3, 1, 2, 1)})
        with self.assertRaisesRegex(UserError, r"attnpool/attention_output/kernel is \[4, 64, 20\] here"):
            build_backbone("clip_resnet", image_size=64, weights=path, **TINY | {"embedding": 20})
        with self.assertRaisesRegex(UserError, "no tensor attnpool.positional_embedding"):
            tiny(weights=checkpoint(self.path, drop=("attnpool.positional_embedding",)))


if __name__ == "__main__":
    tf.test.main()
