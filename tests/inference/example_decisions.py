"""Example decisions as a rule gives them."""

from dr_tf.inference.decision import Decision, ImageInfo, LabelDecision

CLASSES = ("no DR", "DR")


def decided(case, p, *, grade=None, threshold=0.3, **others):
    answers = {"referable": LabelDecision(p, threshold, p >= threshold)}
    others = {
        "images": {"": ImageInfo(case, 0.9)},
        "probabilities": dict(zip(CLASSES, (1 - p, p), strict=True)),
        **others,
    }
    action = "refer" if p >= threshold else "clear"
    return Decision(case, "referable", action, gradable=True, grade=grade, label_decisions=answers, **others)


def retake(case, **others):
    """The decision on an image that cannot be used."""
    others = {"images": {"": ImageInfo(case, reason="out of focus")}, "reason": "out of focus", **others}
    return Decision(case, "referable", "retake", gradable=False, **others)
