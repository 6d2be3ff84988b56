"""Backbone `clip_resnet`: the residual image encoder of CLIP (Radford et al., ICML 2021).

It differs from a plain ResNet in three ways: the stem has three convolutions, average pools take the place of strides,
and attention pools the last feature map. Published checkpoints are read without PyTorch.
"""

from __future__ import annotations

import re

import keras
import numpy as np
from keras import layers, ops

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body
from dr_tf.models.checkpoint_files import Tensors, read_checkpoint
from dr_tf.parameters import Count

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, RGB 0-1
_STD = (0.26862954, 0.26130258, 0.27577711)
_EPSILON, _MOMENTUM = 1e-5, 0.9  # of batch norm in PyTorch; Keras' own differ
_EXPANSION = 4  # a block's output is this many times as wide as its 3x3 convolution
_HEAD_WIDTH = 64
_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# timm's names -> those of OpenAI, which open_clip also uses.
_TIMM = (
    (r"^stem\.conv(\d)\.conv\.", r"conv\1."),
    (r"^stem\.conv(\d)\.bn\.", r"bn\1."),
    (r"^stages\.(\d)\.(\d+)\.shortcut\.conv\.conv\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.0."),
    (r"^stages\.(\d)\.(\d+)\.shortcut\.conv\.bn\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.1."),
    (r"^stages\.(\d)\.(\d+)\.conv(\d)_\w+\.conv\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.conv{m[3]}."),
    (r"^stages\.(\d)\.(\d+)\.conv(\d)_\w+\.bn\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.bn{m[3]}."),
    (r"^head\.pos_embed$", "attnpool.positional_embedding"),
    (r"^head\.([qkv])\.", r"attnpool.\1_proj."),
    (r"^head\.proj\.", "attnpool.c_proj."),
)


def clip_resnet(
    *,
    image_size: int,
    weights: str | None = None,
    width: Count = 64,
    blocks: tuple[Count, Count, Count, Count] = (3, 4, 6, 3),
    embedding: Count = 1024,
) -> Body:
    """Build the body. The defaults are those of RN50.

    Args:
        image_size: Side of the images in pixels. The position embedding of a checkpoint is interpolated for it.
        weights: None, or the path of a checkpoint: OpenAI's archive, or an archive or safetensors file with the names
            of OpenAI, open_clip or timm.
        width: Filters of the stem; an even number. RN50x4 has 80, RN50x16 has 96.
        blocks: Blocks of each of the four stages. RN101 has (3, 4, 23, 3).
        embedding: Size of the image embedding. RN101 has 512, RN50x4 has 640.

    Raises:
        UserError: A size is impossible, or the checkpoint is unreadable or has other sizes.
    """
    if width % 2 or image_size < 32:
        raise UserError(
            f"clip_resnet needs an even width and images of 32 pixels or more, not {width} and {image_size}"
        )
    image = keras.Input((image_size, image_size, 3))
    ends = {"stem": _stem(image, width)}
    for stage, count in enumerate(blocks, 1):
        ends[f"layer{stage}"] = _stage(list(ends.values())[-1], width * 2 ** (stage - 1), stage=stage, blocks=count)
    pooled = _attention_pool(ends["layer4"], embedding)
    model = keras.Model(image, pooled)
    if weights is not None:
        _set_weights(model, _image_encoder(read_checkpoint(weights)), weights)
    variance = [(255 * std) ** 2 for std in _STD]
    mean = [255 * mean for mean in _MEAN]
    return Body(
        model, ends, [layers.Normalization(mean=mean, variance=variance, dtype="float32", name="normalization")]
    )


def _stem(x, width):
    # "same" pads a strided convolution on one side only, where the weights expect both.
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.Conv2D(width // 2, 3, 2, use_bias=False, name="conv1")(x)
    x = _relu(_batch_norm(x, "bn1"), "relu1")
    x = _relu(_batch_norm(_convolution(x, width // 2, 3, "conv2"), "bn2"), "relu2")
    x = _relu(_batch_norm(_convolution(x, width, 3, "conv3"), "bn3"), "relu3")
    return layers.AveragePooling2D(2, name="stem_pool")(x)


def _stage(x, width, *, stage, blocks):
    for block in range(blocks):
        x = _block(x, width, stride=2 if stage > 1 and block == 0 else 1, name=f"layer{stage}_{block}")
    return x


def _block(x, width, *, stride, name):
    y = _relu(_batch_norm(_convolution(x, width, 1, f"{name}_conv1"), f"{name}_bn1"), f"{name}_relu1")
    y = _relu(_batch_norm(_convolution(y, width, 3, f"{name}_conv2"), f"{name}_bn2"), f"{name}_relu2")
    if stride > 1:
        y = layers.AveragePooling2D(stride, name=f"{name}_pool")(y)
    y = _batch_norm(_convolution(y, width * _EXPANSION, 1, f"{name}_conv3"), f"{name}_bn3")
    if stride > 1:
        x = layers.AveragePooling2D(stride, name=f"{name}_downsample_pool")(x)
    if stride > 1 or x.shape[-1] != width * _EXPANSION:
        x = _batch_norm(_convolution(x, width * _EXPANSION, 1, f"{name}_downsample_0"), f"{name}_downsample_1")
    return _relu(layers.Add(name=f"{name}_add")([x, y]), f"{name}_relu3")


def _convolution(x, width, kernel_size, name):
    return layers.Conv2D(width, kernel_size, padding="same", use_bias=False, name=name)(x)


def _batch_norm(x, name):
    return layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=name)(x)


def _relu(x, name):
    return layers.ReLU(name=name)(x)


def _attention_pool(x, embedding):
    """Let the mean of all places attend to itself and to each place."""
    channels, places = x.shape[-1], x.shape[1] * x.shape[2]
    mean = layers.Reshape((1, channels), name="mean_token")(layers.GlobalAveragePooling2D(name="mean")(x))
    tokens = layers.Concatenate(axis=1, name="tokens")([mean, layers.Reshape((places, channels), name="places")(x)])
    # The bias is the position embedding. No layer of Keras adds one without a kernel: this one keeps its ones.
    positions = layers.EinsumDense(
        "btc,c->btc", (places + 1, channels), bias_axes="tc", kernel_initializer="ones", name="attnpool_positions",
        bias_initializer=keras.initializers.RandomNormal(stddev=channels**-0.5),
    )  # fmt: skip
    tokens = positions(tokens)
    heads = channels // _HEAD_WIDTH
    attention = layers.MultiHeadAttention(heads, _HEAD_WIDTH, output_shape=embedding, name="attnpool")
    return layers.Reshape((embedding,), name="embedding")(attention(tokens[:, :1], tokens))


def _image_encoder(tensors: Tensors) -> Tensors:
    """Return the tensors of the image encoder by OpenAI's names, without their prefix."""
    return {_openai_name(name): value for name, value in tensors.items()}


def _openai_name(name):
    name = name.removeprefix("module.").removeprefix("visual.")
    for pattern, replacement in _TIMM:
        name = re.sub(pattern, replacement, name)
    return name


def _set_weights(model, tensors, path):
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name == "attnpool_positions":
            values = {"bias": _positions(_tensor(tensors, "attnpool.positional_embedding", path), model)}
        elif layer.name == "attnpool":
            values = _attention_values(layer, tensors, path)
        else:
            values = _layer_values(layer, tensors, path)
        for variable in layer.weights:
            name = variable.path.removeprefix(f"{layer.name}/")
            if name in values:
                _assign(variable, values[name], path)


def _layer_values(layer, tensors, path):
    """Values of a convolution or a batch norm, by the names of its variables."""
    key = re.sub(r"^(layer\d)_(\d+)_", r"\1.\2.", layer.name).replace("downsample_", "downsample.")
    if isinstance(layer, layers.Conv2D):
        kernel = _tensor(tensors, f"{key}.weight", path)
        return {"kernel": kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel}
    return {ours: _tensor(tensors, f"{key}.{theirs}", path) for ours, theirs in _PARTS.items()}


def _attention_values(layer, tensors, path):
    """Values of the attention: its kernels are [channels, heads, width] and [heads, width, embedding]."""
    values = {}
    for ours, theirs in {"query": "q", "key": "k", "value": "v", "attention_output": "c"}.items():
        for part, name in {"kernel": "weight", "bias": "bias"}.items():
            values[f"{ours}/{part}"] = _tensor(tensors, f"attnpool.{theirs}_proj.{name}", path).T
    shapes = {variable.path.removeprefix(f"{layer.name}/"): variable.shape for variable in layer.weights}
    return {name: v.reshape(shapes[name]) if v.size == np.prod(shapes[name]) else v for name, v in values.items()}


def _positions(embedding, model):
    """Interpolate the position embedding of a square grid, [1 + places, channels], for the grid of the model."""
    grid = model.get_layer("layer4_0_add").output.shape[1]
    side = round(np.sqrt(len(embedding) - 1)) if embedding.ndim == 2 and len(embedding) > 1 else grid
    if side in (grid, 0) or side**2 + 1 != len(embedding):
        return embedding
    square = np.float32(embedding[1:]).reshape(1, side, side, -1)
    resized = ops.convert_to_numpy(ops.image.resize(square, (grid, grid), "bicubic", antialias=True))
    return np.concatenate([embedding[:1], resized.reshape(grid**2, -1)])


def _tensor(tensors, name, path):
    if name not in tensors:
        raise UserError(f"{path} has no tensor {name}: it is no image encoder of CLIP's ResNets with these blocks")
    return tensors[name]


def _assign(variable, value, path):
    if tuple(variable.shape) != value.shape:
        raise UserError(
            f"{path} has other sizes: {variable.path} is {list(variable.shape)} here and {list(value.shape)} there; "
            "set backbone.width, blocks and embedding"
        )
    variable.assign(np.asarray(value, np.float32))
