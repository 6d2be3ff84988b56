"""`decision.json`: a rule as plain data. Reading one runs nothing, and believes nothing that it has not checked."""

import dataclasses
import json
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.files import write_json
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.modes import MODES, ModeDefinition, link_of
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import Mode, OtherOutput, Rule
from dr_tf.models.links import width

VERSION = 2
_SIZES = range(16, 8193)  # pixels of a side that a network or a record set may have


def write_rule(path, rule, preparation):
    write_json(
        path,
        {
            "version": VERSION,
            "heads": {name: {"name": head.name, "config": head.get_config()} for name, head in rule.heads.items()},
            "decides": rule.decides,
            "positive": rule.head.positive,
            "classes": list(rule.head.classes),
            "prior": {"name": rule.prior_name, "shares": list(rule.prior)},
            "operating_point": rule.point,
            "no_guarantee": rule.no_guarantee,
            "photographs": dataclasses.asdict(preparation),
            "gates": {"gradable_from": rule.gradable_from, "distance_limit": rule.distance_limit},
            "modes": {name: dataclasses.asdict(mode) for name, mode in rule.modes.items()},
            "others": {name: dataclasses.asdict(other) for name, other in rule.others.items()},
        },
    )


def read_rule(path, heads):
    """(rule, preparation). `heads`: name -> function of a head's config, such as the registry of heads.

    Raises:
        UserError: in one line, where anything of it is not as `write_rule` leaves it.
    """
    document = _document(path)
    if document.get("version") != VERSION:
        raise UserError(
            f"{path} has version {document.get('version')!r}; this program reads version {VERSION}: train the run again"
        )
    try:
        return _rule(document, heads), _preparation(document["photographs"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, UserError) as error:
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
    right = all(type(fields[name]) is int and fields[name] in _SIZES for name in ("size", "image_size"))
    quality = type(fields["quality"]) is int and 0 < fields["quality"] <= 100
    if not known or type(fields["records"]) is not str or not right or not quality:
        raise ValueError("its way to prepare photographs is not one of ours")
    return Preparation(**fields)


def _rule(document, known):
    heads = {str(name): _head(fields, known) for name, fields in document["heads"].items()}
    head = heads[document["decides"]]
    if [head.positive, *head.classes] != [document["positive"], *document["classes"]]:
        raise ValueError(f"the head {head.name!r} has other classes here, or another definition of positive")
    gates = document["gates"]
    return Rule(
        heads=heads,
        decides=document["decides"],
        prior=_shares(document["prior"]["shares"], head),
        prior_name=str(document["prior"]["name"]),
        point=document["operating_point"],
        modes=_modes(document["modes"], heads, document["decides"]),
        others={name: _other(other, heads[name]) for name, other in document["others"].items()},
        gradable_from=_number(gates["gradable_from"]),
        distance_limit=None if gates["distance_limit"] is None else _number(gates["distance_limit"]),
        no_guarantee=str(document["no_guarantee"]),
    )


def _head(fields, known):
    name = fields["name"]
    if name not in known:
        raise ValueError(f"unknown head {name!r}; known: {', '.join(known)}")
    return known[name](**fields["config"])


def _modes(fields, heads, decides):
    modes = {str(name): _mode(mode, heads[decides], _way(name, mode["way"])) for name, mode in fields.items()}
    for name, mode in modes.items():
        parts = [modes[part].way for part in mode.way.mean if part in modes]
        there = heads.get(mode.way.output or decides)
        if len(parts) < len(mode.way.mean) or any(part.mean for part in parts) or there is None:
            raise ValueError(f"the mode {name!r} reads what is not there")
        links = {link_of(mode.way, heads, decides, ensemble=ensemble) for ensemble in (False, True)}
        if there.classes != heads[decides].classes or mode.calibration.link not in links:
            raise ValueError(f"the mode {name!r} is not calibrated for what it reads")
    return modes


def _way(name, fields):
    read = ModeDefinition(fields["output"], fields["views"], fields["vote"], tuple(fields["mean"]))
    known = [*MODES.values(), ModeDefinition(output=read.output), ModeDefinition(mean=read.mean)]
    if read not in known:
        raise ValueError(f"the mode {name!r} reads nothing that is known")
    return known[known.index(read)]


def _mode(mode, head, way):
    cuts = mode["cuts"]
    if cuts is not None and (len(cuts) != len(head.classes) - 1 or (np.diff(_numbers(cuts)) < 0).any()):
        raise ValueError("its grade cuts are not one less than the classes, rising")
    if set(mode["points"]) != set(head.decided):
        raise ValueError(f"its thresholds are not those of {', '.join(head.decided)}")
    return Mode(
        calibration=_calibration(mode["calibration"], head),
        fitted_prior=_shares(mode["fitted_prior"], head),
        points={name: {str(key): _point(point) for key, point in of.items()} for name, of in mode["points"].items()},
        way=way,
        cuts=None if cuts is None else _numbers(cuts),
        under=None if mode["under"] is None else _shares(mode["under"], head),
        report=dict(mode["report"]),
    )


def _other(other, head):
    shares = (_shares(other[name], head) for name in ("fitted_prior", "prior"))
    calibration = _calibration(other["calibration"], head)
    if calibration.link != head.link:
        raise ValueError(f"a calibration of a {calibration.link} link is not one of the head {head.name!r}")
    return OtherOutput(calibration, *shares, report=dict(other["report"]))


def _calibration(fields, head):
    """Of a mode whose link is not the head's own, there is a score for each class or label."""
    read = Calibration(fields["link"], _numbers(fields["slope"]), _numbers(fields["bias"]))
    if read.bias and len(read.bias) != width(read.link, len(head.classes)):
        raise ValueError(f"its calibration has {len(read.bias)} scores, a {read.link} link of this head has others")
    return read


def _point(point):
    point = OperatingPoint(**point)
    _number(point.threshold)
    return point


def _shares(values, head):
    shares = _numbers(values)
    if len(shares) != len(head.classes) or not all(0 < share < 1 for share in shares):
        raise ValueError("a prior has one share between 0 and 1 for each class")
    if head.exclusive and abs(sum(shares) - 1) > 1e-6:
        raise ValueError("the shares of a prior sum to 1")
    return shares


def _numbers(values):
    return tuple(_number(value) for value in values)


def _number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{value!r} stands where a number belongs")
    return float(value)
