"""Choose the images of paired records: one image of each eye of a patient."""

from collections.abc import Iterable

from dr_tf.grades import EYES
from tfrecords_builder.crops import Crop
from tfrecords_builder.samples import Rejection, Sample


def choose_image_per_eye(crops: Iterable[Crop]) -> tuple[list[Sample], list[Rejection]]:
    """Keep the most gradable image of each eye. Images whose patient or eye is unknown are rejected.

    Returns:
        The samples to keep, in the order of `crops`, and the rejections.
    """
    crops = list(crops)
    best: dict[tuple[str, str], Sample] = {}
    rejections = []
    for crop in sorted(crops, key=lambda c: (-c.gradability.score, c.sample.image_id)):
        sample = crop.sample
        if not sample.patient_id or sample.eye not in EYES:
            rejections.append(Rejection(sample.image_id, str(sample.path), "the patient or the eye is unknown"))
        elif (kept := best.setdefault((sample.patient_id, sample.eye), sample)) is not sample:
            reason = f"{kept.image_id} shows the same eye and is more gradable"
            rejections.append(Rejection(sample.image_id, str(sample.path), reason))
    kept_ids = {sample.image_id for sample in best.values()}
    return [c.sample for c in crops if c.sample.image_id in kept_ids], rejections
