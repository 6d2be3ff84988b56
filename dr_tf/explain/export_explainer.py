"""`ExportExplainer`: maps without gradients, of a network that was exported. It needs no TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.blurring import blur
from dr_tf.explain.explanation import POSITIVE, Explanation, Images, target_index
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.models.heads.head import Head

CAM, OCCLUSION = "cam", "occlusion"
PIXELS = "pixels"
_TITLES = {CAM: "Class-activation mapping", OCCLUSION: "Occlusion"}
_CELLS, _PATCH = 12, 2  # occlusion: cells along a side of the image, and along a side of the patch
_STEP = 1e-4  # of the numerical derivative with respect to a logit
_MIN_PROBABILITY = 1e-12  # so that a map keeps its shape even if the predicted probability is 0


class ExportExplainer:
    """Computes an `Explanation` of images without gradients: `explainer(images, target)`.

    "cam" is class-activation mapping (Zhou et al., CVPR 2016), which networks have whose features are the mean of a feature
    map and whose head is linear. The map of a logit is then part of the graph, and that of a target follows from the
    derivative of its evidence by the logits. It equals Grad-CAM and HiResCAM of that layer. For other networks, "occlusion"
    (Zeiler and Fergus, ECCV 2014) shows how far the evidence drops when a part of the retina is blurred.

    Args:
        network: The exported network.
        head: The head of the output that decides.
        method: "cam" or "occlusion"; by default "cam" where the network has it.

    Attributes:
        title: Name of the method in the literature.
        outputs_are_exact: Outputs are those of the network itself.
        targets: Names of the targets, as in `head.evidence`.

    Raises:
        UserError: The method is unknown, or the network has no maps in closed form.
    """

    outputs_are_exact = by_target = True

    def __init__(self, network: ExportedNetwork, head: Head, *, method: str | None = None):
        self.network, self.head = network, head
        layer = network.export.map_layer
        self.method = method or (CAM if layer else OCCLUSION)
        if self.method not in (CAM, OCCLUSION):
            raise UserError(
                f"the method {self.method!r} needs the run itself and TensorFlow; an export has {CAM} and {OCCLUSION}"
            )
        if self.method == CAM and not layer:
            raise UserError(f"this network has no class-activation maps in closed form; use --method {OCCLUSION}")
        self.title = _TITLES[self.method]
        self.layer_name = layer if self.method == CAM else PIXELS
        self.targets = tuple(head.evidence(np.zeros((1, head.outputs))))

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return self.network.image_size

    def target_index(self, target: str | int) -> int:
        """Return the index of a target, given by name or class number, in `targets`. The classes come first.

        Raises:
            UserError: There is no such target.
        """
        return target_index(self.head, self.targets, target)

    def evidence(self, images: Images, target: str | int = POSITIVE) -> np.ndarray:
        """Compute the evidence for a target, [n], without maps."""
        return self._evidence(self._logits(self.network(images)[0]))[:, self.target_index(target)]

    def __call__(self, images: Images, target: str | int | Sequence[str | int] = POSITIVE) -> Explanation:
        """Explain a batch.

        Args:
            images: RGB 0-255, [n, side, side, 3]; for a paired network a dict as it takes it.
            target: The target for all examples, or one per example: a name in `targets`, or the number of a class.

        Raises:
            UserError: A target does not exist.
        """
        n = len(next(iter(images.values()))) if isinstance(images, Mapping) else len(images)
        targets = [target] * n if isinstance(target, (str, int)) else target
        indices = np.array([self.target_index(one) for one in targets])
        if self.method == CAM:
            outputs, features, of_logits = self.network.with_maps(images)
            weights = self._derivatives(self._logits(outputs), indices)
            maps: dict[Any, np.ndarray] = {None: np.einsum("nhwk,nk->nhw", of_logits, weights)}
        else:
            outputs, features = self.network(images)
            maps = self._occlusion(images, self._evidence(self._logits(outputs)), indices)
        evidence = self._evidence(self._logits(outputs))
        p = self._probabilities(evidence)
        maps = _normalize(maps, np.maximum(p[np.arange(n), indices], _MIN_PROBABILITY))
        return Explanation(outputs, features, self._by_target(evidence), self._by_target(p), maps.get(None, maps))

    def _logits(self, outputs):
        return np.asarray(outputs[self.network.export.decides], np.float64)

    def _evidence(self, logits):
        return np.stack(list(self.head.evidence(logits).values()), axis=1)

    def _derivatives(self, logits, indices):
        """The derivative of each example's target by the logits, [n, logits]."""
        rows = np.arange(len(logits))
        steps = _STEP * np.eye(logits.shape[1])
        sides = [[self._evidence(logits + sign * step)[rows, indices] for step in steps] for sign in (1, -1)]
        return (np.array(sides[0]) - np.array(sides[1])).T / (2 * _STEP)

    def _probabilities(self, evidence):
        """Evidence is log-odds, except for more than two exclusive classes, where it is the logits of a softmax."""
        n, p = len(self.head.classes), 0.5 * (1 + np.tanh(0.5 * evidence))
        if not self.head.exclusive or n == 2:
            return p
        odds = np.exp(evidence[:, :n] - evidence[:, :n].max(axis=1, keepdims=True))
        return np.concatenate([odds / odds.sum(axis=1, keepdims=True), p[:, n:]], axis=1)

    def _by_target(self, values):
        return dict(zip(self.targets, values.T, strict=True))

    def _occlusion(self, images, evidence, indices):
        """How far the evidence drops without each part of each eye, {eye: [n, cells, cells]}."""
        paired = isinstance(images, Mapping)
        pictures = {name: images[name] for name in ("left", "right")} if paired else {None: np.asarray(images)}
        rows, maps = np.arange(len(indices)), {}
        for eye, of_eye in pictures.items():
            blurred = np.stack([blur(image) for image in of_eye])

            def drop(changed, eye=eye):
                logits = self._logits(self.network({**images, eye: changed} if paired else changed)[0])
                return (evidence - self._evidence(logits))[rows, indices]

            maps[eye] = occlusion_map(np.asarray(of_eye), blurred, drop)
        return maps


def occlusion_map(images: np.ndarray, blurred: np.ndarray, drop: Any) -> np.ndarray:
    """Compute the mean drop of the evidence over all patches that cover a cell.

    Args:
        images: The images, uint8 [n, side, side, 3].
        blurred: The same images without visible lesions.
        drop: Computes the drop of the evidence, [n], from images.

    Returns:
        [n, cells, cells].
    """
    n, side = len(images), images.shape[1]
    edges = np.linspace(0, side, _CELLS + 1).round().astype(int)
    total, count = np.zeros((n, _CELLS, _CELLS)), np.zeros((_CELLS, _CELLS))
    for row, column in itertools.product(range(_CELLS - _PATCH + 1), repeat=2):
        cells = slice(row, row + _PATCH), slice(column, column + _PATCH)
        place = np.s_[:, edges[row] : edges[row + _PATCH], edges[column] : edges[column + _PATCH]]
        count[cells] += 1
        if (images[place] != blurred[place]).any():  # outside of the retina nothing changes
            changed = images.copy()
            changed[place] = blurred[place]
            total[:, cells[0], cells[1]] += drop(changed)[:, None, None]
    return total / count


def _normalize(maps, amounts):
    """Set negative values to 0, and scale {eye: maps} so that the means of an example's maps add up to its amount."""
    positive = {eye: np.maximum(values, 0) for eye, values in maps.items()}
    means = np.sum([values.mean(axis=(1, 2)) for values in positive.values()], axis=0)
    factors = np.divide(amounts, means, out=np.zeros_like(amounts), where=means > 0)
    return {eye: (values * factors[:, None, None]).astype(np.float32) for eye, values in positive.items()}
