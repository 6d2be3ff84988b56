"""CLIP: both towers stage by stage against Hugging Face's implementation (`fixtures/make_clip.py`), and its backbone."""

import functools
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.models.backbones import build_backbone
from dr_tf.models.backbones.clip_vit import resize_positions
from dr_tf.models.classifier import classifier
from dr_tf.models.clip import encode_prompts, load_clip, token_ids
from dr_tf.models.heads.binary import Binary
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.stages import frozen_outputs, stage_by_variable

FOLDER = pathlib.Path(__file__).parent / "fixtures/clip"
EXPECTED = np.load(FOLDER / "expected.npz")
PROMPTS = ["Severe retinopathy, 2 bleeds", "no  retina's edema"]  # as in make_clip.py
HEADS = {"any_dr": Binary()}
SIZES = {
    "patch_size": 8, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 24, "projection_dim": 12,
}  # fmt: skip


@functools.cache
def backbone(**options):
    return build_backbone("clip_vit", **{"image_size": 32, "weights": str(FOLDER)} | options)


def preset(folder):
    """The same CLIP as a preset of keras-hub, with its tokenizer."""
    from keras_hub.models import CLIPTokenizer

    load_clip(str(FOLDER)).save_to_preset(folder)
    CLIPTokenizer(str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt")).save_to_preset(folder)
    return folder


class ImageTowerTest(tf.test.TestCase):
    def test_every_stage(self):
        model = backbone().model
        names = ["patches", "block1", "block2", "pooled"]
        stages = keras.Model(model.input, [model.get_layer(f"stage_{name}").output for name in names])
        outputs = stages(EXPECTED["images"])
        for output, name in zip(outputs, ["vision_0", "vision_1", "vision_2", "embedding"], strict=True):
            self.assertAllClose(output, EXPECTED[name], atol=1e-4, rtol=0)

    def test_class_token_without_projection(self):
        output = backbone(projected=False).model(EXPECTED["images"])["pooled"]
        self.assertAllClose(output, EXPECTED["vision_class"], atol=1e-4, rtol=0)

    def test_positions_of_another_image_size(self):
        output = backbone(image_size=48).model(EXPECTED["images_48"])["pooled"]
        self.assertAllClose(output, EXPECTED["embedding_48"], atol=1e-4, rtol=0)

    def test_published_by_pytorch_and_as_a_preset(self):
        published, folder = f"{self.get_temp_dir()}/published", f"{self.get_temp_dir()}/preset"
        shutil.copytree(FOLDER, published, ignore=shutil.ignore_patterns("*.safetensors"))
        expected = backbone().model(EXPECTED["images"])["pooled"]
        for weights in (published, preset(folder)):
            self.assertAllEqual(backbone(weights=weights).model(EXPECTED["images"])["pooled"], expected)

    @pytest.mark.slow
    def test_gelu(self):
        """The networks of OpenCLIP have GELU."""
        folder = pathlib.Path(self.get_temp_dir(), "gelu")
        shutil.copytree(FOLDER, folder)
        _edit(folder / "config.json", lambda config: config["vision_config"].update(hidden_act="gelu"))
        clip, x = load_clip(str(folder)), np.zeros((1, 32, 32, 3), np.float32)
        mean = np.float32([0.48145466, 0.4578275, 0.40821073]) * 255
        self.assertAllClose(
            backbone(weights=str(folder)).model(x + mean)["pooled"], clip.get_vision_embeddings(x), atol=1e-5
        )
        self.assertNotAllClose(clip.get_vision_embeddings(x), load_clip(str(FOLDER)).get_vision_embeddings(x))

    def test_positions_by_hand(self):
        """At half the side, the weights at the two middle taps are 0.59375 and at the outer ones -0.09375."""
        row = np.array([0.0, 0, 1, 0])
        grid = np.outer(row, row)
        positions = np.concatenate([[7], grid.ravel()])[:, np.newaxis]
        halved = np.array([-0.09375, 0.59375])
        expected = np.concatenate([[7], np.outer(halved, halved).ravel()])[:, np.newaxis]
        self.assertAllClose(resize_positions(positions, 2), expected)
        self.assertAllEqual(resize_positions(positions, 4), positions)
        self.assertAllClose(resize_positions(np.ones((5, 3)), 7), np.ones((50, 3)))


class TextTowerTest(tf.test.TestCase):
    def test_every_stage(self):
        clip, ids = load_clip(str(FOLDER)), EXPECTED["token_ids"].astype(np.int32)
        text = clip.text_encoder
        stages = [text.embedding.output, *(block.output for block in text.encoder_layers)]
        outputs = [*keras.Model(text.input, stages)({"token_ids": ids}), clip.get_text_embeddings(ids)]
        for output, name in zip(outputs, ["text_0", "text_1", "text_2", "text_embedding"], strict=True):
            self.assertAllClose(output, EXPECTED[name], atol=1e-4, rtol=0)

    def test_prompts(self):
        expected = EXPECTED["text_embedding"]
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        embeddings = encode_prompts(preset(f"{self.get_temp_dir()}/preset"), PROMPTS)
        self.assertEqual(embeddings.dtype, np.float32)
        self.assertAllClose(embeddings, expected, atol=1e-4, rtol=0)
        more = encode_prompts(str(FOLDER), [PROMPTS[0]] * 40 + [PROMPTS[1]])
        self.assertEqual(more.shape, (41, 12))
        self.assertAllClose(more[39:], embeddings, atol=1e-5)

    def test_tokens(self):
        from keras_hub.models import CLIPTokenizer

        tokenizer = CLIPTokenizer(str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt"))
        rows = token_ids(tokenizer, PROMPTS, length=32)
        for row, expected, length in zip(rows, EXPECTED["token_ids"], EXPECTED["lengths"], strict=True):
            self.assertAllEqual(row[:length], expected[:length])
            self.assertAllEqual(row[length:], np.zeros(32 - length))

    def test_mistakes(self):
        for prompts, message in (
            ([], "prompts must be a list of texts, none of them empty"),
            (["edema", " "], "none of them empty"),
            (["z" * 40], "a prompt has 42 tokens, more than the 32 of this CLIP: zzz"),
        ):
            with self.assertRaisesRegex(UserError, message):
                encode_prompts(str(FOLDER), prompts)
        for weights in (f"{self.get_temp_dir()}/a", f"{self.get_temp_dir()}/b"):
            shutil.copytree(FOLDER, weights)
        pathlib.Path(self.get_temp_dir(), "a/vocab.json").unlink()
        pathlib.Path(self.get_temp_dir(), "b/merges.txt").write_text("not a merge of two\n")
        for name in ("a", "b"):
            with self.assertRaisesRegex(UserError, f"{name} contains no usable tokenizer of CLIP: "):
                encode_prompts(f"{self.get_temp_dir()}/{name}", PROMPTS)


class StagesTest(tf.test.TestCase):
    def test_trainable_from_a_block(self):
        made = backbone(trainable_from="block2")
        self.assertEqual(list(made.stages), ["patches", "block1", "block2", "pooled"])
        self.assertEqual(list(made.model.output), ["pooled"])
        model = classifier(made, HEADS)
        stage_of = stage_by_variable(model)
        trained = {stage_of.get(v.path, "head") for v in model.trainable_variables}
        self.assertEqual(trained, {"block2", "pooled", "head"})
        self.assertEqual([tensor.shape for tensor in frozen_outputs(model)], [(None, 17, 16)])
        self.assertEqual(stage_of["embedding/kernel"], "patches")

    def test_saved_model_has_layers_of_keras_only(self):
        model, path = classifier(backbone(), HEADS), f"{self.get_temp_dir()}/model.keras"
        to_plain_keras(model).save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        for layer in loaded.layers:
            self.assertTrue(type(layer).__module__.startswith("keras."), layer)
        self.assertAllClose(loaded(EXPECTED["images"])["any_dr"], model(EXPECTED["images"])["any_dr"], atol=1e-5)

    @pytest.mark.slow
    def test_opens_without_this_project_and_keras_hub(self):
        model = classifier(backbone(trainable_from="none"), HEADS)
        folder = pathlib.Path(self.get_temp_dir())
        to_plain_keras(model).save(folder / "model.keras")
        np.save(folder / "images.npy", EXPECTED["images"])
        np.save(folder / "expected.npy", model(EXPECTED["images"])["any_dr"])
        code = (
            "import keras, numpy as np, sys\n"
            "model = keras.saving.load_model('model.keras', safe_mode=True)\n"
            "assert not {'dr_tf', 'keras_hub'} & set(sys.modules)\n"
            "np.testing.assert_allclose(model(np.load('images.npy'))['any_dr'], np.load('expected.npy'), atol=1e-5)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_random_weights(self):
        keras.utils.set_random_seed(0)
        made = backbone(weights=None, **SIZES)
        self.assertEqual(made.model.count_params(), backbone().model.count_params())
        pooled = made.model(EXPECTED["images"])["pooled"]
        self.assertAllGreater(np.abs(pooled[0] - pooled[1]).max(), 0)

    @pytest.mark.slow
    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        output = backbone.__wrapped__().model(EXPECTED["images"])["pooled"]
        self.assertEqual(output.dtype, "float16")
        self.assertAllClose(output, EXPECTED["embedding"], atol=0.02, rtol=0)

    def test_maps(self):
        model = classifier(backbone(), HEADS)
        explainer = Explainer(model, HEADS["any_dr"])
        self.assertEqual(explainer.layer_name, "the patches that enter block2_attention")
        for layer in (None, "stage_block1"):
            maps = Explainer(model, HEADS["any_dr"], layer=layer)(EXPECTED["images"]).maps
            self.assertEqual(maps.shape, (2, 4, 4))
            self.assertTrue(maps.any(), layer)
        with self.assertRaisesRegex(UserError, "there is no layer 'block1_ad'; there are .*block1_add1"):
            Explainer(model, HEADS["any_dr"], layer="block1_ad")


class MistakesTest(tf.test.TestCase):
    def test_options(self):
        for options, message in (
            ({"weights": None}, r"needs weights .*; for random weights set backbone.patch_size, backbone.hidden_dim,"),
            (
                {"weights": None, **SIZES, "num_heads": 3},
                "hidden_dim = 16 must be a multiple of backbone.num_heads = 3",
            ),
            ({"num_layers": 3}, "the weights of clip_vit determine its sizes; remove backbone.num_layers"),
            ({"image_size": 36}, "image_size = 36 must be a multiple of the patch size 8"),
            ({"weights": "/nowhere"}, "/nowhere is neither a folder nor a preset"),
            ({"trainable_from": "block3"}, "unknown stage 'block3'.*: all, none, patches, block1, block2, pooled"),
        ):
            with self.subTest(options), self.assertRaisesRegex(UserError, message):
                backbone(**options)

    def test_preset_of_another_network(self):
        import keras_hub

        folder = f"{self.get_temp_dir()}/vit"
        keras_hub.models.ViTBackbone(
            image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
        ).save_to_preset(folder)
        with self.assertRaisesRegex(UserError, "contains a ViTBackbone, not CLIP"):
            backbone(weights=folder)

    def test_damaged_folders(self):
        cases = {
            "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing or is not"),
            "a list": (lambda folder: (folder / "config.json").write_text("[1]"), "config.json is missing or is not"),
            "too wide": (_narrow_a_tensor, "q_proj.weight has the shape "),
            "deep": (
                lambda folder: (folder / "config.json").write_text("[" * 10**5),
                "config.json is missing or is not",
            ),
            "heads": (
                lambda folder: _edit(
                    folder / "config.json", lambda config: config["vision_config"].update(num_attention_heads=5)
                ),
                "does not fit its config.json: 5 attention heads do not divide 16 channels",
            ),
            "no heads": (
                lambda folder: _edit(
                    folder / "config.json", lambda config: config["text_config"].update(num_attention_heads=0)
                ),
                "does not fit its config.json: ",
            ),
            "activation": (
                lambda folder: _edit(
                    folder / "config.json", lambda config: config["text_config"].update(hidden_act="relu")
                ),
                "hidden_act must be one of quick_gelu, gelu",
            ),
            "a ResNet": (_rename_a_tensor, "has no tensor 'visual_projection.weight': it is not a CLIPModel"),
        }
        for name, (damage, message) in cases.items():
            folder = pathlib.Path(self.get_temp_dir(), name)
            shutil.copytree(FOLDER, folder)
            damage(folder)
            with self.subTest(name), self.assertRaisesRegex(UserError, f"^.*{message}.*$"):
                backbone(weights=str(folder))


def _edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def _narrow_a_tensor(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["text_model.encoder.layers.1.self_attn.q_proj.weight"]["shape"] = [1, 256]
    path.write_bytes(data[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(length) + data[8 + length :])


def _rename_a_tensor(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"visual_projection.weight", b"visual_projection.WEIGHT"))


if __name__ == "__main__":
    tf.test.main()
