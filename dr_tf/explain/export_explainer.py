"""`ExportExplainer`: maps without gradients, of a network that was exported. It needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.blurring import blur
from dr_tf.explain.explanation import POSITIVE, BaseExplainer, Explanation, Images
from dr_tf.explain.occlusion import occlusion
from dr_tf.grades import EYES
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.models.heads.head import Head

CAM, OCCLUSION = "cam", "occlusion"
PIXELS = "pixels"
_TITLES = {CAM: "Class-activation mapping", OCCLUSION: "Occlusion"}
_STEP = 1e-4  # of the numerical derivative with respect to a logit


class ExportExplainer(BaseExplainer):
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
        indices = self.target_indices(target, n)
        if self.method == CAM:
            outputs, features, of_logits = self.network.with_maps(images)
            weights = self._derivatives(self._logits(outputs), indices)
            maps: dict[Any, np.ndarray] = {None: np.einsum("nhwk,nk->nhw", of_logits, weights)}
        else:
            outputs, features = self.network(images)
            maps = self._occlusion(images, indices)
        return self.explanation(outputs, features, self._evidence(self._logits(outputs)), maps, indices)

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

    def _occlusion(self, images, indices):
        """How far the evidence drops without each part of each eye, {eye: [n, cells, cells]}."""
        paired = isinstance(images, Mapping)
        pictures = {eye: np.asarray(images[eye]) for eye in EYES} if paired else {None: np.asarray(images)}
        rows, maps = np.arange(len(indices)), {}
        for eye, of_eye in pictures.items():

            def score(changed, eye=eye):
                outputs, _ = self.network({**images, eye: changed} if paired else changed)
                return self._evidence(self._logits(outputs))[rows, indices]

            maps[eye] = occlusion(of_eye, np.stack([blur(image) for image in of_eye]), score)
        return maps
