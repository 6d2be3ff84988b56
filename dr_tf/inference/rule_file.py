"""Read and write `decision.json`: the decision rule and the image preparation of a run as plain JSON.

A file of unknown origin is safe to read: no code in it is run, and every value is checked.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.files import write_json
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.conformal import Conformal
from dr_tf.inference.modes import MODES, ModeDefinition, mode_link
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import Mode, OtherOutput, Rule
from dr_tf.models.links import score_count
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

VERSION = 3
_SIDES = range(16, 8193)  # allowed sides of images, in pixels
_LARGEST = sys.float_info.max
_HIGHEST_THRESHOLD = 1 + 1e-6  # one above 1 is out of reach; a guaranteed specificity may need it


def write_rule(path: str | os.PathLike, rule: Rule, preparation: Preparation) -> None:
    """Write a rule and the preparation of its images to a JSON file."""
    write_json(
        pathlib.Path(path),
        {
            "version": VERSION,
            "heads": {name: {"name": head.name, "config": head.get_config()} for name, head in rule.heads.items()},
            "decides": rule.decides,
            "positive": rule.head.positive,
            "classes": list(rule.head.classes),
            "prior": {"name": rule.prior_name, "shares": list(rule.prior)},
            "operating_point": rule.operating_point_name,
            "no_guarantee": rule.no_guarantee,
            "preparation": dataclasses.asdict(preparation),
            "gate": {
                "gradable_from": rule.gradable_from,
                "distance_limit": rule.distance_limit,
                "warning_limit": rule.warning_limit,
            },
            "modes": {name: dataclasses.asdict(mode) for name, mode in rule.modes.items()},
            "other_outputs": {name: dataclasses.asdict(other) for name, other in rule.other_outputs.items()},
        },
    )


def read_rule(path: str | os.PathLike, heads: Mapping[str, Callable[..., Head]]) -> tuple[Rule, Preparation]:
    """Read a rule and the preparation of its images.

    Args:
        path: of the JSON file.
        heads: {name: function of a head's config}, such as `dr_tf.models.heads.HEADS`.

    Raises:
        UserError: the file is missing, of another version, or not as `write_rule` writes it; in one line.
    """
    document = _read_document(path)
    if document.get("version") != VERSION:
        raise UserError(
            f"{path} has version {document.get('version')!r}; this version of dr_tf reads version {VERSION}: train the "
            "run again"
        )
    try:
        return _parse_rule(document, heads), _parse_preparation(document["preparation"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, UserError) as error:
        problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} cannot be used: {printable(str(problem))}") from error


def _read_document(path):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a decision file: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} cannot be read as a decision file: it contains no JSON object")
    return document


def _refuse_constant(constant):
    raise ValueError(f"{constant} is not a number")


def _refuse_repeated_keys(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):  # readers disagree about which of the values counts
        raise ValueError(f"a key occurs twice in {list(fields)}")
    return fields


def _parse_preparation(fields):
    known = fields["enhancement"] in ENHANCEMENTS
    sides_allowed = all(type(fields[name]) is int and fields[name] in _SIDES for name in ("size", "image_size"))
    quality_allowed = type(fields["quality"]) is int and 0 < fields["quality"] <= 100
    if not known or type(fields["records"]) is not str or not sides_allowed or not quality_allowed:
        raise ValueError(f"unknown preparation of images {fields}")
    return Preparation(**fields)


def _parse_rule(document: dict[str, Any], known: Mapping[str, Callable[..., Head]]) -> Rule:
    heads = {str(name): _parse_head(fields, known) for name, fields in document["heads"].items()}
    head = heads[document["decides"]]
    if [head.positive, *head.classes] != [document["positive"], *document["classes"]]:
        raise ValueError(f"its classes or its definition of positive are not those of the head {head.name!r}")
    gate = document["gate"]
    return Rule(
        heads=heads,
        decides=document["decides"],
        prior=_shares(document["prior"]["shares"], head),
        prior_name=str(document["prior"]["name"]),
        operating_point_name=document["operating_point"],
        modes=_parse_modes(document["modes"], heads, document["decides"]),
        other_outputs={name: _parse_other(other, heads[name]) for name, other in document["other_outputs"].items()},
        gradable_from=_number(gate["gradable_from"], 0, 1),
        distance_limit=_limit(gate["distance_limit"]),
        warning_limit=_limit(gate.get("warning_limit")),  # earlier versions had none
        no_guarantee=str(document["no_guarantee"]),
    )


def _limit(value):
    return None if value is None else _number(value, 0)


def _parse_head(fields, known):
    name = fields["name"]
    if name not in known:
        raise ValueError(f"unknown head {name!r}; known: {', '.join(known)}")
    return known[name](**fields["config"])


def _parse_modes(fields, heads, decides):
    modes = {
        str(name): _parse_mode(mode, heads[decides], _parse_definition(name, mode["definition"]))
        for name, mode in fields.items()
    }
    for name, mode in modes.items():
        definition = mode.definition
        parts = [modes[part].definition for part in definition.mean if part in modes]
        source = heads.get(definition.output or decides)
        if len(parts) < len(definition.mean) or any(part.mean for part in parts) or source is None:
            raise ValueError(f"the mode {name!r} needs an output or modes that are missing")
        links = {mode_link(definition, heads, decides, ensemble=ensemble) for ensemble in (False, True)}
        if source.classes != heads[decides].classes or mode.calibration.link not in links:
            raise ValueError(f"the mode {name!r} has a calibration of another link, or an output of other classes")
    return modes


def _parse_definition(name, fields):
    definition = ModeDefinition(
        fields["output"], fields["views"], fields["vote"], tuple(fields["mean"]), fields.get("eyes", "")
    )
    known = [*MODES.values(), ModeDefinition(output=definition.output), ModeDefinition(mean=definition.mean)]
    if definition not in known:
        raise ValueError(f"the mode {name!r} has an unknown definition")
    return known[known.index(definition)]


def _parse_mode(mode, head, definition):
    thresholds = mode["grade_thresholds"]
    if thresholds is not None and (
        len(thresholds) != len(head.classes) - 1 or (np.diff(_numbers(thresholds)) < 0).any()
    ):
        raise ValueError("its grade thresholds must rise, one less than the classes")
    if set(mode["operating_points"]) != set(head.definitions):
        raise ValueError(f"its operating points are not those of {', '.join(head.definitions)}")
    return Mode(
        calibration=_parse_calibration(mode["calibration"], head),
        fitted_prior=_shares(mode["fitted_prior"], head),
        operating_points={
            definition_name: {str(name): _parse_operating_point(point) for name, point in points.items()}
            for definition_name, points in mode["operating_points"].items()
        },
        definition=definition,
        grade_thresholds=None if thresholds is None else _numbers(thresholds),
        averaging_prior=None if mode["averaging_prior"] is None else _shares(mode["averaging_prior"], head),
        conformal=_parse_conformal(mode.get("conformal"), head),  # earlier versions had none
        report=dict(mode["report"]),
    )


def _parse_conformal(fields, head):
    if fields is None:
        return None
    conformal = Conformal(
        _number(fields["alpha"], 0, 1),
        bool(fields["per_class"]),
        _numbers(fields["thresholds"]),
        _numbers(fields["calibration_patients"]),
        str(fields["no_guarantee"]),
    )
    if len(conformal.thresholds) != (len(head.classes) if conformal.per_class else 1):
        raise ValueError("its conformal predictor has another number of thresholds than classes")
    return conformal


def _parse_other(other, head):
    fitted_prior, prior = (_shares(other[name], head) for name in ("fitted_prior", "prior"))
    calibration = _parse_calibration(other["calibration"], head)
    if calibration.link != head.link:
        raise ValueError(f"a calibration of the link {calibration.link} does not fit the head {head.name!r}")
    return OtherOutput(calibration, fitted_prior, prior, report=dict(other["report"]))


def _parse_calibration(fields, head):
    calibration = Calibration(fields["link"], _numbers(fields["slope"]), _numbers(fields["bias"]))
    # A mode's link need not be the head's own, but it has to have as many scores as the classes need.
    needed = score_count(calibration.link, len(head.classes))
    if calibration.bias and len(calibration.bias) != needed:
        raise ValueError(f"its {calibration.link} calibration has {len(calibration.bias)} biases, not {needed}")
    return calibration


def _parse_operating_point(fields):
    point = OperatingPoint(**fields)
    return dataclasses.replace(point, threshold=_number(point.threshold, 0, high=_HIGHEST_THRESHOLD))


def _shares(values, head):
    shares = _numbers(values)
    if len(shares) != len(head.classes) or not all(0 < share < 1 for share in shares):
        raise ValueError("a prior needs one share between 0 and 1 for each class")
    if head.exclusive and abs(sum(shares) - 1) > 1e-6:
        raise ValueError("the shares of a prior must sum to 1")
    return shares


def _numbers(values):
    return tuple(_number(value) for value in values)


def _number(value, low=-_LARGEST, high=_LARGEST):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{repr(value)[:40]} is not a finite number")
    if not low <= value <= high:
        raise ValueError(f"{value!r} is not a number from {low:g} to {high:g}")
    return float(value)
