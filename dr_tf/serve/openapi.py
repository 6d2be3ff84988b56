"""The texts of the OpenAPI description."""

from __future__ import annotations

from typing import Any

from dr_tf.fundus.decode import MAX_PIXELS
from dr_tf.grades import EYES, SEXES
from dr_tf.inference.decision import ACTIONS
from dr_tf.serve.limits import Limits
from dr_tf.serve.model_description import NOTICE

_PHOTOGRAPH = "JPEG, PNG, TIFF, BMP or DICOM file"
_FIELDS: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "format": "binary", "description": f"one photograph, a {_PHOTOGRAPH}"},
    **{eye: {"type": "string", "format": "binary", "description": f"the photograph of the {eye} eye"} for eye in EYES},
    "prevalence": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "the share of positives in the population; the probabilities are corrected for it",
    },
    "point": {"type": "string", "description": "the name of an operating point of the model, see /v1/model"},
    "age": {"type": "number", "description": "of the patient in years; only some models of both eyes use it"},
    "sex": {"type": "string", "enum": list(SEXES), "description": "only some models of both eyes use it"},
}
_PROBABILITY = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_DECISION = {
    "type": "object",
    "description": "as a line of `dr_tf predict --format json`",
    "properties": {
        "case": {"type": "string", "description": "the name of the file"},
        "action": {"type": "string", "enum": list(ACTIONS)},
        "gradable": {"type": "boolean"},
        "reason": {"type": "string", "description": "why the photograph has to be retaken; empty if it need not"},
        "warning": {
            "type": "string",
            "description": "why the decision may be less reliable, such as another camera; or empty",
        },
        "grade": {"type": ["integer", "null"], "description": "the ICDR grade, 0 to 4"},
        "grade_range": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "the lowest and the highest grade of a range that contains the true one in 9 of 10 cases",
        },
        "positive": {"type": "string", "description": "the definition of positive"},
        "p_positive": _PROBABILITY | {"description": "the calibrated probability of positive"},
        "threshold": _PROBABILITY | {"description": "refer from this probability on"},
        "probabilities": {"type": "object", "description": "of each class"},
        "other_outputs": {"type": "object", "description": "probabilities of the outputs that do not decide"},
    },
}
_PATIENT = {
    "type": ["object", "null"],
    "description": "as a line of `dr_tf predict --patients --format json`; null unless the request names an eye or shows "
    "both, and for a model of both eyes, whose one decision is on the patient",
}
ANSWER = {
    "type": "object",
    "properties": {"decisions": {"type": "array", "items": _DECISION}, "patient": _PATIENT},
    "required": ["decisions", "patient"],
}
_DETAIL = {"type": "object", "properties": {"detail": {"type": "string", "description": "one sentence"}}}
PROBLEMS = {
    408: "the request was not sent within the time limit",
    413: "too many bytes",
    415: "not multipart/form-data",
    422: "wrong fields or values",
    429: "too many requests: try again after the seconds in Retry-After",
    500: "the decision failed",
    503: "the service is stopping",
    504: "no decision within the time limit",
}


def description(limits: Limits) -> str:
    """Return the description of the whole service, with its limits."""
    return (
        "Decisions on fundus photographs: refer, clear or retake. "
        f"A request has at most {limits.request_bytes / 1e6:g} MB and takes at most {limits.seconds:g} seconds; "
        f"a photograph has at most {MAX_PIXELS / 1e6:g} megapixels. At most {limits.requests} requests and "
        f"{limits.total_bytes / 1e6:g} MB are in the service at a time; further ones get the status 429. "
        "A photograph that cannot be read or graded gets the action retake, with the reason. "
        f"Nothing of what is sent is stored or logged. {NOTICE}"
    )


def decide_extra() -> dict[str, Any]:
    """Return the form of a request for a decision."""
    schema = {"type": "object", "properties": _FIELDS, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def decide_responses() -> dict[int | str, dict[str, Any]]:
    """Return the responses to a request for a decision, by status."""
    answer = {"description": "the decisions", "content": {"application/json": {"schema": ANSWER}}}
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": {"application/json": {"schema": _DETAIL}}}
        for status, text in PROBLEMS.items()
    }
    return {200: answer, **problems}
