"""Which model decides, on whom it was validated, and by which operating point, as (name, text) rows."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Iterator

from dr_tf import __version__
from dr_tf.app.engine import Engine
from dr_tf.app.messages import Messages
from dr_tf.inference.ready import MEASURED
from dr_tf.safe_names import printable


def model_facts(engine: Engine, messages: Messages) -> list[tuple[str, str]]:
    """Return the rows about the model."""
    t, predictor = messages, engine.predictor
    rule, network = predictor.rule, predictor.run.network
    point = rule.operating_point(predictor.mode)
    shares = [t("about.unknown") if s is None else t.percent(s) for s in (point.sensitivity, point.specificity)]
    value = t(
        "about.point_value",
        name=rule.operating_point_name.replace("_", " "),
        threshold=t.percent(point.threshold),
        sensitivity=shares[0],
        specificity=shares[1],
    )
    return [
        (t("about.validated"), validated(engine, t)),
        (t("about.decides"), t.name("definition", rule.head.positive)),
        (t("about.point"), value),
        (t("about.guaranteed"), point.note),
        (t("about.prior"), t.percent(rule.prevalence)),
        (t("about.trained"), predictor.run.preparation.records),
        (t("about.network"), f"{network.description}, {network.image_size} px"),
        (t("about.runtime"), network.runtime),
        (t("about.version"), f"dr_tf {__version__}"),
    ]


def validated(engine: Engine, messages: Messages) -> str:
    """Return on whom the model was validated: the line that comes with it, or one of each evaluation of the run."""
    run_dir = pathlib.Path(engine.run_dir)
    measured = run_dir / MEASURED
    if measured.exists():
        return printable(measured.read_text(encoding="utf-8", errors="replace").strip())
    return " ".join(_evaluations(run_dir, messages)) or messages("about.not_validated")


def _evaluations(run_dir: pathlib.Path, messages: Messages) -> Iterator[str]:
    for path in sorted(run_dir.glob("evaluation/*/metrics.json")):
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            auroc = metrics["auroc"]
            text = f"{auroc['value']:.3f} ({auroc['low']:.3f}-{auroc['high']:.3f})"
            date = datetime.date.fromtimestamp(path.stat().st_mtime)
            yield messages("about.evaluation", name=printable(path.parent.name), date=date, n=metrics["n"], auroc=text)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # an evaluation that cannot be read is no validation
