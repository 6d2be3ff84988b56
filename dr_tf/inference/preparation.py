"""What a photograph goes through before the network: the very steps that made the records it was trained on."""

import dataclasses
import re

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.fundus.prepare import encode_jpeg, prepare_undamaged, resized

_RECORDS = re.compile(r"(\d+)-(\w+)-q(\d+)(-paired)?")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How the `records` were made (`size`, `enhancement`, JPEG `quality`), and the side that the network takes."""

    records: str
    size: int
    enhancement: str
    quality: int
    image_size: int

    @classmethod
    def of_records(cls, name, image_size):
        """From the name of a record set, such as idrid/256-plain-q95, or of several that were made alike."""
        made = {part.split("/")[-1] for part in name.split("+")}
        match = _RECORDS.fullmatch(made.pop()) if len(made) == 1 else None
        if not match or match[2] not in ENHANCEMENTS:
            raise UserError(f"the name of the records {name!r} does not say how they were made")
        return cls(name, int(match[1]), match[2], int(match[3]), image_size)

    def __call__(self, data):
        """Bytes of a photograph -> (what the network takes, the Prepared). Raises BadImageError.

        The crop is coded as JPEG and decoded again: the network has seen nothing else, and by this an original gives
        the same pixels as its record.
        """
        prepared = prepare_undamaged(data, size=self.size, enhancement=self.enhancement)
        jpeg = np.frombuffer(encode_jpeg(prepared.image, self.quality), np.uint8)
        return resized(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), self.image_size), prepared
