"""Prototype head: the cosine similarity of an image's features to one prototype per grade."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from dr_tf.console import UserError
from dr_tf.models.heads.softmax import Softmax
from dr_tf.parameters import Positive

if TYPE_CHECKING:
    import keras

    from dr_tf.models.heads.head import Projection


@dataclasses.dataclass(frozen=True)
class Prototypes(Softmax):
    """Softmax over the scaled cosine similarities to the prototypes of the five grades.

    The logit of grade k is scale * cos(features, prototype k). With `prompts`, a prototype is the mean of the embeddings
    that CLIP's text tower gives to the prompts of its grade. They are computed when the network is built and are weights
    of the network, so inference needs no text tower. Without `prompts`, a prototype starts as the mean of the training
    features of its grade, each of length 1.

    Attributes:
        prompts: {grade: prompts}, with all five grades as in `dr_tf.grades.GRADES`; None for class means.
        text_encoder: Weights of CLIP that encode the prompts, as `dr_tf.models.clip.load_clip` takes them.
        anchors: What becomes of the prototypes. "trained": they are trained. "fixed": they stay as they are. "projected":
            the embeddings of the prompts stay as they are, and pass through the same trained layers as the features.
        scale: Factor of the cosine similarities. CLIP was trained to 100.
    """

    prompts: Mapping[str, Sequence[str]] | None = None
    text_encoder: str | None = None
    anchors: Literal["trained", "fixed", "projected"] = "trained"
    scale: Positive = 100.0

    name: ClassVar[str] = "prototypes"

    def __post_init__(self):
        super().__post_init__()
        if self.prompts is not None:
            object.__setattr__(self, "prompts", _checked_prompts(self.prompts, self.classes))
        if (self.prompts is None) != (self.text_encoder is None):
            raise UserError("prototypes.prompts and prototypes.text_encoder need each other: set both or neither")
        if self.anchors == "projected" and self.prompts is None:
            raise UserError("prototypes.anchors = 'projected' needs prototypes.prompts")

    def logits(self, features: keras.KerasTensor, name: str, projection: Projection | None = None) -> keras.KerasTensor:
        """Add the prototypes and the similarities, of Keras' own layers."""
        embeddings = None
        if self.prompts is not None and self.text_encoder is not None:
            prompts = tuple(tuple(self.prompts[grade]) for grade in self.classes)
            embeddings = mean_embeddings(self.text_encoder, prompts)
        if self.anchors == "projected" and embeddings is not None:
            return self._projected(features, name, projection, embeddings)
        return self._stored(features, name, embeddings)

    def _stored(self, features, name, embeddings):
        """One network whose only weights are the prototypes, as the kernel of a layer."""
        import keras

        inputs = keras.Input(features.shape[1:], dtype=features.dtype)
        x = keras.layers.UnitNormalization(dtype="float32", name="unit_length")(inputs)
        cosines = keras.layers.Dense(
            self.outputs,
            use_bias=False,
            kernel_constraint=keras.constraints.UnitNorm(axis=0),
            trainable=self.anchors == "trained",
            dtype="float32",
            name=_COSINES,
        )
        x = keras.layers.Rescaling(self.scale, dtype="float32", name="scale")(cosines(x))
        network = keras.Model(inputs, x, name=name)
        if embeddings is not None:
            _check_width(embeddings, features.shape[-1])
            cosines.set_weights([embeddings.T])
        return network(features)

    def _projected(self, features, name, projection, embeddings):
        import keras
        from keras import ops

        if projection is None:
            raise UserError(
                "prototypes.anchors = 'projected' needs layers to pass through: set classifier.hidden or "
                "classifier.projection"
            )
        anchors = _constant(features, embeddings, f"{name}_anchors")
        unit_length = keras.layers.UnitNormalization(dtype="float32", name=f"{name}_unit_length")
        cosines = ops.matmul(unit_length(features), ops.transpose(unit_length(projection(anchors))))
        return keras.layers.Rescaling(self.scale, dtype="float32", name=name)(cosines)

    @property
    def starts_from_features(self) -> bool:
        """Whether the prototypes start as class means of the training features."""
        return self.prompts is None

    def initialize(self, layer: keras.layers.Layer, features: np.ndarray, true_classes: np.ndarray) -> None:
        """Set each prototype to the mean direction of the features of its class.

        Args:
            layer: The output layer, as `logits` made it.
            features: Features of the training examples, [n, width].
            true_classes: Their classes, [n]; ABSENT if unknown.
        """
        directions = _unit_length(np.asarray(features, np.float64))
        means = np.stack([directions[true_classes == k].mean(axis=0) for k in range(self.outputs)])
        layer.get_layer(_COSINES).set_weights([_unit_length(means).T])

    def get_config(self) -> dict[str, Any]:
        """Return the fields, the prompts as lists."""
        config = super().get_config()
        if self.prompts is not None:
            config["prompts"] = {grade: list(prompts) for grade, prompts in self.prompts.items()}
        return config


_COSINES = "cosines"


@functools.lru_cache(maxsize=8)  # folds and grids build the same network again
def mean_embeddings(text_encoder: str, prompts: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Compute the mean embedding of each group of prompts.

    Args:
        text_encoder: Weights of CLIP, as `dr_tf.models.clip.load_clip` takes them.
        prompts: The prompts of each group.

    Returns:
        Embeddings of length 1, float32 [groups, width].
    """
    from dr_tf.models.clip import encode_prompts

    embeddings = encode_prompts(text_encoder, [prompt for group in prompts for prompt in group])
    ends = np.cumsum([len(group) for group in prompts])[:-1]
    return _unit_length(np.stack([part.mean(axis=0) for part in np.split(embeddings, ends)])).astype(np.float32)


def _unit_length(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _constant(features, rows, name):
    """A constant [rows, width] as a tensor of the graph that computes `features`, whatever their values are."""
    import keras
    from keras import ops

    one = ops.ones_like(ops.sum(features, axis=0, keepdims=True)[:, :1])
    numbers = ops.cast(ops.cumsum(ops.repeat(one, len(rows), axis=1), axis=1), "int32") - 1
    table = keras.layers.Embedding(*rows.shape, trainable=False, dtype="float32", name=name)
    constant = ops.reshape(table(numbers), rows.shape)
    table.set_weights([rows])
    return constant


def _check_width(embeddings, width):
    if embeddings.shape[1] != width:
        raise UserError(
            f"the embeddings of prototypes.prompts have {embeddings.shape[1]} numbers and the features {width}: set "
            f"classifier.projection = {embeddings.shape[1]}"
        )


def _checked_prompts(prompts, grades):
    if not isinstance(prompts, Mapping) or set(prompts) != set(grades):
        raise UserError(f"prototypes.prompts needs prompts for each of {', '.join(grades)}")
    groups = {grade: prompts[grade] for grade in grades}
    for grade, group in groups.items():
        valid = isinstance(group, (list, tuple)) and group and all(isinstance(p, str) and p.strip() for p in group)
        if not valid:
            raise UserError(f"prototypes.prompts of {grade!r} must be a list of texts, none of them empty")
    return {grade: tuple(group) for grade, group in groups.items()}
