"""Preparation of an original image for the network, by the same steps that made the training records."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.fundus.prepare import PreparedCrop, encode_jpeg, prepare_undamaged, resize_square

_CONFIG_NAME = re.compile(r"(\d+)-(\w+)-q(\d+)(-paired)?")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The steps from an original image to the network's input.

    Attributes:
        records: the record set that the network was trained on.
        size: side of the stored crops in pixels.
        enhancement: a name in `dr_tf.fundus.enhance.ENHANCEMENTS`.
        quality: JPEG quality of the stored crops.
        image_size: side of the network's input images in pixels.
    """

    records: str
    size: int
    enhancement: str
    quality: int
    image_size: int

    @classmethod
    def from_records_name(cls, name: str, image_size: int) -> Preparation:
        """Parse the name of a record set, which contains how its crops were made.

        Args:
            name: such as "idrid/256-plain-q95", or several sets of the same configuration, joined by "+".
            image_size: side of the network's input images in pixels.

        Raises:
            UserError: the name contains no such configuration, or several different ones.
        """
        configs = {part.split("/")[-1] for part in name.split("+")}
        match = _CONFIG_NAME.fullmatch(configs.pop()) if len(configs) == 1 else None
        if not match or match[2] not in ENHANCEMENTS:
            raise UserError(
                f"the records name {name!r} does not contain one configuration SIZE-ENHANCEMENT-qQUALITY, such as "
                "idrid/512-plain-q95"
            )
        return cls(name, int(match[1]), match[2], int(match[3]), image_size)

    def __call__(self, data: bytes, frames: Sequence[int] = ()) -> tuple[np.ndarray, PreparedCrop]:
        """Prepare the bytes of an image file.

        The crop is encoded as JPEG and decoded again: the network was trained on such crops only, and this way an
        original gives the same pixels as its record.

        Args:
            data: the bytes of the file.
            frames: of a DICOM file with several frames, those of which the most gradable one is taken; by default all.

        Returns:
            (uint8 RGB [image_size, image_size, 3], the PreparedCrop).

        Raises:
            BadImageError: the image cannot be decoded, is damaged, or shows no fundus.
        """
        prepared = prepare_undamaged(data, frames, size=self.size, enhancement=self.enhancement)
        jpeg = np.frombuffer(encode_jpeg(prepared.image, self.quality), np.uint8)
        decoded: Any = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)  # never None: it was encoded here
        return resize_square(decoded, self.image_size), prepared
