"""`decision.json`: a rule as plain data. Reading one runs nothing, and believes nothing that it has not checked."""

import dataclasses
import json
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.files import write_json
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import Mode, Rule

VERSION = 1


def write_rule(path, rule, preparation):
    head = rule.head
    write_json(
        path,
        {
            "version": VERSION,
            "head": {"name": head.name, "config": head.get_config()},
            "positive": head.positive,
            "classes": list(head.classes),
            "prior": {"name": rule.prior_name, "shares": list(rule.prior)},
            "operating_point": rule.point,
            "photographs": dataclasses.asdict(preparation),
            "gates": {"gradable_from": rule.gradable_from, "distance_limit": rule.distance_limit},
            "modes": {name: dataclasses.asdict(mode) for name, mode in rule.modes.items()},
        },
    )


def read_rule(path, heads):
    """(rule, preparation). `heads`: name -> function of a head's config, such as the registry of heads."""
    document = _document(path)
    if document.get("version") != VERSION:
        raise UserError(f"{path} has version {document.get('version')!r}; this program reads version {VERSION}")
    try:
        return _rule(document, heads), _preparation(document["photographs"])
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} cannot be used: {what}") from error


def _document(path):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no decision file that can be read: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is no decision file: it holds no JSON object")
    return document


def _refuse(constant):
    raise ValueError(f"{constant} is no number")


def _preparation(fields):
    known = fields["enhancement"] in ENHANCEMENTS
    numbers = [fields[name] for name in ("size", "quality", "image_size")]
    if (
        not known
        or type(fields["records"]) is not str
        or not all(type(number) is int and 0 < number < 1 << 14 for number in numbers)
    ):
        raise ValueError("its way to prepare photographs is not one of ours")
    return Preparation(**fields)


def _rule(document, heads):
    name = document["head"]["name"]
    if name not in heads:
        raise ValueError(f"unknown head {name!r}; known: {', '.join(heads)}")
    head = heads[name](**document["head"]["config"])
    if [head.positive, *head.classes] != [document["positive"], *document["classes"]]:
        raise ValueError(f"the head {name!r} has other classes here, or another definition of positive")
    gates = document["gates"]
    return Rule(
        head=head,
        prior=_shares(document["prior"]["shares"], head),
        prior_name=str(document["prior"]["name"]),
        point=document["operating_point"],
        modes={str(key): _mode(mode, head) for key, mode in document["modes"].items()},
        gradable_from=_number(gates["gradable_from"]),
        distance_limit=None if gates["distance_limit"] is None else _number(gates["distance_limit"]),
    )


def _mode(mode, head):
    cuts, calibration = mode["cuts"], mode["calibration"]
    read = Calibration(calibration["kind"], _numbers(calibration["slope"]), _numbers(calibration["bias"]))
    if read.bias and len(read.bias) != head.outputs:
        raise ValueError(f"its calibration has {len(read.bias)} logits, the head {head.outputs}")
    if cuts is not None and (len(cuts) != len(head.classes) - 1 or (np.diff(_numbers(cuts)) < 0).any()):
        raise ValueError("its grade cuts are not one less than the classes, rising")
    return Mode(
        calibration=read,
        fitted_prior=_shares(mode["fitted_prior"], head),
        points={str(name): _point(point) for name, point in mode["points"].items()},
        cuts=None if cuts is None else _numbers(cuts),
        report=dict(mode["report"]),
    )


def _point(point):
    point = OperatingPoint(**point)
    _number(point.threshold)
    return point


def _shares(values, head):
    shares = _numbers(values)
    if len(shares) != len(head.classes) or min(shares) <= 0 or max(shares) > 1:
        raise ValueError("a prior has one share above 0 for each class")
    return shares


def _numbers(values):
    return tuple(_number(value) for value in values)


def _number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{value!r} stands where a number belongs")
    return float(value)
