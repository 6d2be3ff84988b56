"""CLIP with both towers, from keras-hub or as Hugging Face publishes it, and the embeddings of prompts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dr_tf.console import UserError
from dr_tf.models.backbones.presets import load_preset
from dr_tf.models.checkpoint_files import read_checkpoint

if TYPE_CHECKING:
    from keras_hub.models import CLIPBackbone, CLIPTokenizer

_TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
_ACTIVATIONS = ("quick_gelu", "gelu")
_BATCH_SIZE = 32


def load_clip(weights: str) -> CLIPBackbone:
    """Load CLIP with both towers.

    Args:
        weights: A keras-hub preset (a handle or a folder), or a folder as Hugging Face publishes CLIP: config.json, and
            model.safetensors or pytorch_model.bin.

    Raises:
        UserError: The weights cannot be loaded, or are not those of CLIP.
    """
    path = _tensor_file(weights)
    clip = _from_hugging_face(weights, path) if path else load_preset(weights)
    if type(clip).__name__ != "CLIPBackbone":
        raise UserError(f"{weights} contains a {type(clip).__name__}, not CLIP; use backbone keras_hub for it")
    clip.text_encoder.layer_norm.epsilon = 1e-5  # as CLIP has it; keras-hub 0.32 has 1e-6
    return clip


def encode_prompts(weights: str, prompts: Sequence[str]) -> np.ndarray:
    """Compute the embeddings that CLIP's text tower gives to prompts.

    Args:
        weights: As `load_clip` takes them; with a tokenizer in the same preset, or vocab.json and merges.txt beside
            Hugging Face's weights.
        prompts: The prompts.

    Returns:
        Embeddings of length 1, float32 [prompts, width].

    Raises:
        UserError: The weights or the tokenizer cannot be loaded, or a prompt is empty or too long.
    """
    clip, tokenizer = load_clip(weights), _tokenizer(weights)
    ids = token_ids(tokenizer, prompts, length=clip.text_encoder.max_sequence_length)
    batches = [ids[i : i + _BATCH_SIZE] for i in range(0, len(ids), _BATCH_SIZE)]
    embeddings = np.concatenate([np.array(clip.get_text_embeddings(batch), np.float32) for batch in batches])
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def token_ids(tokenizer: CLIPTokenizer, prompts: Sequence[str], *, length: int) -> np.ndarray:
    """Tokenize prompts between start and end token, padded with zeros to int32 [prompts, length].

    Raises:
        UserError: There is no prompt, or a prompt is empty or too long.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError("prompts must be a list of texts, none of them empty")
    rows = np.zeros((len(prompts), length), np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        tokens = np.array(tokenizer(" ".join(prompt.lower().split()))).tolist()
        tokens = [tokenizer.start_token_id, *tokens, tokenizer.end_token_id]
        if len(tokens) > length:
            raise UserError(f"a prompt has {len(tokens)} tokens, more than the {length} of this CLIP: {prompt}")
        row[: len(tokens)] = tokens
    return rows


def _tensor_file(weights):
    paths = [os.path.join(weights, name) for name in _TENSOR_FILES]
    return next(filter(os.path.isfile, paths), None)


def _tokenizer(weights):
    from keras_hub.models import CLIPTokenizer

    files = {"vocabulary": os.path.join(weights, "vocab.json"), "merges": os.path.join(weights, "merges.txt")}
    try:
        if _tensor_file(weights):
            return CLIPTokenizer(**files)
        return CLIPTokenizer.from_preset(weights)
    except Exception as error:  # keras-hub, tokenizers and the hubs each raise their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{weights} contains no usable tokenizer of CLIP: {reason}") from None


def _from_hugging_face(folder, path):
    config, tensors = _read_config(os.path.join(folder, "config.json")), read_checkpoint(path)
    try:
        clip = _build(config, tensors)
        _set_weights(clip, tensors)
    except KeyError as error:
        raise UserError(f"{path} has no tensor {error}: it is not a CLIPModel with a vision transformer") from None
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(f"{path} does not fit its config.json: {str(error).splitlines()[0]}") from None
    return clip


def _read_config(path):
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        return {tower: dict(config.get(f"{tower}_config") or {}) for tower in ("vision", "text")}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is missing or is not the configuration of a CLIPModel") from None


def _build(config: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, np.ndarray]) -> CLIPBackbone:
    """Sizes come from the tensors; only heads and activation have to be read from the configuration."""
    from keras_hub.models import CLIPBackbone, CLIPTextEncoder, CLIPVisionEncoder

    vision = _tower_sizes("vision", config, tensors, default_heads=12)
    text = _tower_sizes("text", config, tensors, default_heads=8)
    patch_size = tensors["vision_model.embeddings.patch_embedding.weight"].shape[2]
    side = math.isqrt(_rows(tensors, "vision_model.embeddings.position_embedding", vision) - 1) * patch_size
    return CLIPBackbone(
        CLIPVisionEncoder(patch_size=patch_size, image_shape=(side, side, 3), **vision),
        CLIPTextEncoder(
            vocabulary_size=_rows(tensors, "text_model.embeddings.token_embedding", text),
            embedding_dim=text["hidden_dim"],
            max_sequence_length=_rows(tensors, "text_model.embeddings.position_embedding", text),
            **text,
        ),
        projection_dim=_rows(tensors, "visual_projection", vision),
    )


def _tower_sizes(tower, config, tensors, *, default_heads):
    prefix = f"{tower}_model.encoder.layers."
    units, width = tensors[f"{prefix}0.mlp.fc1.weight"].shape
    blocks = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    # A small file must not ask for a large network.
    for i in range(len(blocks)):
        _check_shape(tensors, f"{prefix}{i}.self_attn.q_proj.weight", (width, width))
        _check_shape(tensors, f"{prefix}{i}.mlp.fc1.weight", (units, width))
    heads, activation = config[tower].get("num_attention_heads", default_heads), config[tower].get("hidden_act")
    if type(heads) is not int or heads < 1 or width % heads:
        raise ValueError(f"{heads} attention heads do not divide {width} channels")
    if activation not in (None, *_ACTIVATIONS):
        raise ValueError(f"hidden_act must be one of {', '.join(_ACTIVATIONS)}")
    return {
        "hidden_dim": width,
        "intermediate_dim": units,
        "num_layers": len(blocks),
        "num_heads": heads,
        "intermediate_activation": activation or _ACTIVATIONS[0],
    }


def _rows(tensors, name, sizes):
    rows = len(tensors[f"{name}.weight"])
    _check_shape(tensors, f"{name}.weight", (rows, sizes["hidden_dim"]))
    return rows


def _check_shape(tensors, name, shape):
    if tensors[name].shape != shape:
        raise ValueError(f"{name} has the shape {tensors[name].shape}, not {shape}")


def _set_weights(clip: CLIPBackbone, tensors: Mapping[str, np.ndarray]) -> None:
    vision, text = clip.vision_encoder, clip.text_encoder
    prefix = "vision_model.embeddings"
    positions = tensors[f"{prefix}.position_embedding.weight"]
    vision.embedding.patch_embedding.set_weights([tensors[f"{prefix}.patch_embedding.weight"].transpose(2, 3, 1, 0)])
    vision.embedding.position_embedding.set_weights([positions])
    vision.embedding.class_embedding.assign(tensors[f"{prefix}.class_embedding"].reshape(-1))
    vision.embedding.position_ids.assign(np.arange(len(positions))[np.newaxis])
    prefix = "text_model.embeddings"
    text.embedding.token_embedding.set_weights([tensors[f"{prefix}.token_embedding.weight"]])
    text.embedding.position_embedding.set_weights([tensors[f"{prefix}.position_embedding.weight"]])
    # The first name is misspelt in the published files.
    vision.pre_layer_norm.set_weights(_pair(tensors, "vision_model.pre_layrnorm"))
    vision.layer_norm.set_weights(_pair(tensors, "vision_model.post_layernorm"))
    text.layer_norm.set_weights(_pair(tensors, "text_model.final_layer_norm"))
    for tower, encoder in (("vision", vision), ("text", text)):
        for i, block in enumerate(encoder.encoder_layers):
            _set_block(block, tensors, f"{tower}_model.encoder.layers.{i}")
    clip.vision_projection.set_weights([tensors["visual_projection.weight"].T])
    clip.text_projection.set_weights([tensors["text_projection.weight"].T])


def _set_block(block: keras.layers.Layer, tensors: Mapping[str, np.ndarray], prefix: str) -> None:
    heads = block.num_heads
    attention = []
    for name in ("q_proj", "k_proj", "v_proj"):
        kernel, bias = _dense(tensors, f"{prefix}.self_attn.{name}")
        attention += [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]
    kernel, bias = _dense(tensors, f"{prefix}.self_attn.out_proj")
    block.attention.set_weights([*attention, kernel.reshape(heads, -1, len(bias)), bias])
    block.layer_norm_1.set_weights(_pair(tensors, f"{prefix}.layer_norm1"))
    block.layer_norm_2.set_weights(_pair(tensors, f"{prefix}.layer_norm2"))
    block.dense_1.set_weights(_dense(tensors, f"{prefix}.mlp.fc1"))
    block.dense_2.set_weights(_dense(tensors, f"{prefix}.mlp.fc2"))


def _pair(tensors, name):
    return [tensors[f"{name}.weight"], tensors[f"{name}.bias"]]


def _dense(tensors, name):
    weight, bias = _pair(tensors, name)
    return [weight.T, bias]
