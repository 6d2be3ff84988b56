"""Images of the report's worst mistakes, from a record set; the two eyes of a pair are stacked one above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import Records
from dr_tf.explain.captions import describe_colours, target_name
from dr_tf.explain.crop_maps import explain_crops, explainer_of, stack_eyes
from dr_tf.fundus.prepare import encode_jpeg
from dr_tf.inference.network import Network
from dr_tf.inference.rule import Rule

_BATCH = 16


class MistakeImages:
    """The images of predictions, plain and under their class-activation maps."""

    def __init__(
        self,
        records: Records,
        row_of: Mapping[str, int],
        network: Network,
        rule: Rule,
        colour_scale: dict[str, Any] | None = None,
    ) -> None:
        """Store where the images are.

        Args:
            records: the evaluated record set.
            row_of: {id of a prediction: its row in `records`}.
            network: the run's network.
            rule: the run's decision rule.
            colour_scale: the run's fitted colour scale; None: each image is stretched to its own maximum.
        """
        self._records, self._row_of, self._network, self._rule = records, row_of, network, rule
        self._colour_scale = colour_scale
        self._legend = ""

    def image(self, name: str) -> bytes:
        """Return the image of an id as a JPEG file."""
        return encode_jpeg(stack_eyes(self._crops(self._row_of[name])))

    def overlays(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return {id: JPEG file} of images under their map for positive; empty where the network has no feature map."""
        rows = [self._row_of[name] for name in names]
        explainer = explainer_of(self._network, self._rule, self._colour_scale) if rows else None
        if explainer is None:
            return {}
        images = ImageLoader(self._records, image_size=self._network.image_size, cache="none")
        batches = image_batches(images, rows=np.array(rows), batch_size=_BATCH)
        explained = explain_crops(explainer, (x for x, _ in batches), self._colour_scale)
        self._legend = describe_colours(explained.full_colour, target_name("positive", self._rule.head.positive))
        return {
            name: encode_jpeg(stack_eyes(self._crops(row), maps))
            for name, row, maps in zip(names, rows, explained.maps, strict=True)
        }

    def legend(self) -> str:
        """Return what the colours of the last `overlays` mean."""
        return self._legend

    def _crops(self, row: int) -> dict[str | None, np.ndarray]:
        black = np.zeros((self._records.image_size,) * 2 + (3,), np.uint8)
        return {
            eye: self._records.image(row, eye) if self._records.present(eye)[row] else black
            for eye in self._records.eyes
        }
