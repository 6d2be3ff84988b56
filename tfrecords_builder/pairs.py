"""Both eyes of a patient in one record: at most one photograph an eye, the most gradable."""

from dr_tf.grades import EYES
from tfrecords_builder.samples import Rejection


def one_an_eye(crops):
    """(samples to keep, rejections): a pair holds one photograph of each eye, and needs patient and eye to be known."""
    best, rejections = {}, []
    for crop in sorted(crops, key=lambda c: (-c.gradability.score, c.sample.image_id)):
        sample = crop.sample
        if not sample.patient_id or sample.eye not in EYES:
            rejections.append(Rejection(sample.image_id, str(sample.path), "its patient or eye is not known"))
        elif (kept := best.setdefault((sample.patient_id, sample.eye), sample)) is not sample:
            reason = f"{kept.image_id} shows the same eye and is more gradable"
            rejections.append(Rejection(sample.image_id, str(sample.path), reason))
    kept = {sample.image_id for sample in best.values()}
    return [c.sample for c in crops if c.sample.image_id in kept], rejections
