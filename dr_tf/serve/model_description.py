"""What `GET /v1/model` answers: the model, what it decides, where its thresholds are, and on whom it was tested."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
from typing import Any

from dr_tf import __version__
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.ready import MEASURED, READY

NOTICE = "Research software, not a medical device. A decision is no diagnosis: a trained reader has to confirm it."
NOT_MEASURED = "not stated: the model's folder has no measured.txt"
MEANING = {
    "any_dr": "any diabetic retinopathy: grade >= 1",
    "referable": "referable diabetic retinopathy: grade >= 2",
    "referable_dme": "macular edema near the fovea",
    "referable_or_dme": "referable diabetic retinopathy (grade >= 2) or macular edema near the fovea",
    "vision_threatening": "vision-threatening diabetic retinopathy: grade >= 3",
}
_LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime", "fastapi", "uvicorn")


def describe(predictor: Predictor, model: str | os.PathLike) -> dict[str, Any]:
    """Describe a model as plain data.

    Args:
        predictor: that decides.
        model: the folder of the run or the export. Only its last name is shown.
    """
    rule, network = predictor.rule, predictor.run.network
    head, measured = rule.head, pathlib.Path(model) / MEASURED
    return {
        "name": "ready" if pathlib.Path(model) == READY else pathlib.Path(model).resolve().name,
        "network": network.description,
        "image_size": network.image_size,
        "paired": network.paired,
        "mode": predictor.mode,
        "outputs": {name: list(of_output.classes) for name, of_output in rule.heads.items()},
        "decides": rule.decides,
        "positive": head.positive,
        "positive_means": MEANING.get(head.positive, head.positive),
        "prior": {"name": rule.prior_name, "shares": dict(zip(head.classes, rule.prior, strict=True))},
        "operating_point": rule.operating_point_name,
        "operating_points": _operating_points(predictor),
        "gate": {
            "gradable_from": rule.gradable_from,
            "distance_limit": rule.distance_limit,
            "warning_limit": rule.warning_limit,
        },
        "tested_on": measured.read_text(encoding="utf-8", errors="replace").strip()
        if measured.exists()
        else NOT_MEASURED,
        "versions": {"dr_tf": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "notice": NOTICE,
    }


def _operating_points(predictor):
    points = predictor.rule.mode(predictor.mode).operating_points[predictor.rule.head.positive]
    names = ("threshold", "sensitivity", "specificity", "guaranteed", "note")
    return {name: {key: getattr(point, key) for key in names} for name, point in points.items()}
