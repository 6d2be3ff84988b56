"""Backbone `clip_vit`: the image tower of CLIP with a vision transformer (Radford et al., ICML 2021).

The tower is rebuilt from Keras' own layers as one flat graph. A saved model therefore needs neither keras-hub nor this
project, and the network can be cut after every block.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import layers

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body
from dr_tf.models.clip import load_clip
from dr_tf.parameters import Count

if TYPE_CHECKING:
    from keras_hub.models import CLIPBackbone

# CLIP's mean and standard deviation for RGB images 0-1. They are not those of ImageNet.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class _Sizes:
    patch_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    intermediate_dim: int
    projection_dim: int
    activation: str = "quick_gelu"


def clip_vit(
    *,
    image_size: int,
    weights: str | None = None,
    projected: bool = True,
    patch_size: Count | None = None,
    hidden_dim: Count | None = None,
    num_layers: Count | None = None,
    num_heads: Count | None = None,
    intermediate_dim: Count | None = None,
    projection_dim: Count | None = None,
) -> Body:
    """Build the body: patches, class token and positions, then transformer blocks.

    Its stages are "patches", "block1", "block2" and so on.

    Args:
        image_size: Side of the images in pixels, a multiple of the patch size. If the weights were trained with another
            size, their position embeddings are interpolated (bicubic).
        weights: A keras-hub preset of CLIP (a handle such as "clip_vit_base_patch16", or a folder), or a folder as
            Hugging Face publishes CLIP. None: random weights of the sizes below, which must then all be given.
        projected: Whether the features are the image embedding that CLIP compares with texts, before it is scaled to
            length 1, or the class token after the last normalization.
        patch_size: Side of a patch in pixels.
        hidden_dim: Channels of a token.
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        intermediate_dim: Units of the first dense layer in a block.
        projection_dim: Width of the image embedding.

    Raises:
        UserError: The weights cannot be loaded, or the sizes are missing or do not fit.
    """
    given = {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "intermediate_dim": intermediate_dim,
        "projection_dim": projection_dim,
    }
    if weights is None:
        return _body(_given_sizes(given), image_size, projected)
    if superfluous := [name for name, size in given.items() if size is not None]:
        raise UserError(f"the weights of clip_vit determine its sizes; remove backbone.{superfluous[0]}")
    clip = load_clip(weights)
    body = _body(_sizes_of(clip), image_size, projected)
    _copy_weights(clip, body.model)
    return body


def _given_sizes(given):
    if missing := [f"backbone.{name}" for name, size in given.items() if size is None]:
        raise UserError(
            "backbone clip_vit needs weights (a keras-hub preset such as clip_vit_base_patch16, or a folder); for random "
            f"weights set {', '.join(missing)}"
        )
    sizes = _Sizes(**given)
    if sizes.hidden_dim % sizes.num_heads:
        raise UserError(
            f"backbone.hidden_dim = {sizes.hidden_dim} must be a multiple of backbone.num_heads = {sizes.num_heads}"
        )
    return sizes


def _sizes_of(clip: CLIPBackbone) -> _Sizes:
    tower = clip.vision_encoder
    return _Sizes(
        tower.patch_size,
        tower.hidden_dim,
        tower.num_layers,
        tower.num_heads,
        tower.intermediate_dim,
        clip.projection_dim,
        tower.intermediate_activation,
    )


def _body(sizes, image_size, projected):
    if image_size % sizes.patch_size:
        raise UserError(f"backbone.image_size = {image_size} must be a multiple of the patch size {sizes.patch_size}")
    image = keras.Input((image_size, image_size, 3))
    x = _embed_patches(image, sizes)
    ends = {"patches": x}
    for i in range(1, sizes.num_layers + 1):
        x = ends[f"block{i}"] = _block(x, sizes, f"block{i}")
    x = layers.Cropping1D((0, x.shape[1] - 1), name="class_token")(x)
    x = layers.Reshape((sizes.hidden_dim,), name="class_vector")(x)
    x = _normalized(x, "norm")
    if projected:
        x = layers.Dense(sizes.projection_dim, use_bias=False, name="projection")(x)
    scale, offset = [1 / (255 * s) for s in _STD], [-m / s for m, s in zip(_MEAN, _STD, strict=True)]
    return Body(keras.Model(image, x), ends, [layers.Rescaling(scale, offset, dtype="float32", name="normalization")])


def _embed_patches(image, sizes):
    """Add the class token and the positions with the dense layer's bias, which has a row per token.

    The class token has no pixels. Its row of zeros leaves only its bias: class embedding plus position.
    """
    side, patch = image.shape[1] // sizes.patch_size, sizes.patch_size
    x = layers.Reshape((side, patch, side, patch, 3), name="patch_rows")(image)
    x = layers.Permute((1, 3, 2, 4, 5), name="patch_grid")(x)
    x = layers.Reshape((side**2, patch**2 * 3), name="patch_pixels")(x)
    x = layers.ZeroPadding1D((1, 0), name="class_row")(x)
    x = layers.EinsumDense(
        "abc,cd->abd",
        (side**2 + 1, sizes.hidden_dim),
        bias_axes="bd",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name="embedding",
    )(x)
    return _normalized(x, "embedding_norm")


def _block(x, sizes, name):
    attention = layers.MultiHeadAttention(
        sizes.num_heads, sizes.hidden_dim // sizes.num_heads, name=f"{name}_attention"
    )
    normalized = _normalized(x, f"{name}_norm1")
    x = layers.Add(name=f"{name}_add1")([x, attention(normalized, normalized)])
    y = layers.Dense(sizes.intermediate_dim, name=f"{name}_dense1")(_normalized(x, f"{name}_norm2"))
    y = _activated(y, sizes.activation, name)
    y = layers.Dense(sizes.hidden_dim, name=f"{name}_dense2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def _normalized(x, name):
    return layers.LayerNormalization(epsilon=_EPSILON, name=name)(x)


def _activated(x, activation, name):
    """CLIP's QuickGELU is x * sigmoid(1.702 x), which Keras lacks; OpenCLIP's weights have GELU."""
    if activation != "quick_gelu":
        return layers.Activation(activation, name=f"{name}_activation")(x)
    gate = layers.Rescaling(1.702, name=f"{name}_gate_scale")(x)
    gate = layers.Activation("sigmoid", name=f"{name}_gate")(gate)
    return layers.Multiply(name=f"{name}_quick_gelu")([x, gate])


def _copy_weights(clip: CLIPBackbone, model: keras.Model) -> None:
    tower, embedding = clip.vision_encoder, clip.vision_encoder.embedding
    kernel = embedding.patch_embedding.get_weights()[0]
    # `position_ids` are stored with the weights of a preset.
    positions = np.array(embedding.position_embedding(embedding.position_ids), np.float32)[0]
    positions = resize_positions(positions, math.isqrt(model.get_layer("embedding").output.shape[1] - 1))
    positions[0] += embedding.class_embedding.numpy()
    model.get_layer("embedding").set_weights([kernel.reshape(-1, kernel.shape[-1]), positions])
    model.get_layer("embedding_norm").set_weights(tower.pre_layer_norm.get_weights())
    parts = {"norm1": "layer_norm_1", "attention": "attention", "norm2": "layer_norm_2"}
    parts |= {"dense1": "dense_1", "dense2": "dense_2"}
    for i, block in enumerate(tower.encoder_layers, 1):
        for name, of_preset in parts.items():
            model.get_layer(f"block{i}_{name}").set_weights(getattr(block, of_preset).get_weights())
    model.get_layer("norm").set_weights(tower.layer_norm.get_weights())
    if any(layer.name == "projection" for layer in model.layers):
        model.get_layer("projection").set_weights(clip.vision_projection.get_weights())


def resize_positions(positions: np.ndarray, side: int) -> np.ndarray:
    """Interpolate position embeddings for another number of patches, as PyTorch does (bicubic, half-pixel centres).

    Args:
        positions: [1 + patches, channels]; the first is that of the class token, which stays as it is.
        side: Patches along a side of the image.

    Returns:
        [1 + side**2, channels].
    """
    old = math.isqrt(len(positions) - 1)
    if old == side:
        return positions.copy()
    weights = _cubic_weights(old, side)
    grid = positions[1:].reshape(old, old, -1)
    grid = np.einsum("ia,jb,abc->ijc", weights, weights, grid, optimize=True).astype(positions.dtype)
    return np.concatenate([positions[:1], grid.reshape(side**2, -1)])


def _cubic_weights(old, new, a=-0.75):
    """[new, old] weights of Keys' cubic convolution; places beyond the edge repeat the edge."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        place = np.floor(centres).astype(int) + tap
        x = np.abs(centres - place)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        np.add.at(weights, (np.arange(new), place.clip(0, old - 1)), np.where(x <= 1, near, far))
    return weights
