"""Intervals of grades: what they promise, and how often they held here."""

from dr_tf.evaluation.report.display_names import TABLES, count, interval, number, text
from dr_tf.evaluation.report.tables import bar, figure_table, plain_table


def intervals_section(metrics):
    conformal = metrics["conformal"]
    table = figure_table(metrics, TABLES["intervals"], "Intervals of neighbouring classes.")
    if not table or not conformal:
        return table
    aim = 1 - conformal["alpha"]
    told = (
        f"<p>Made to hold the true class for at least {100 * aim:.4g} % of new patients like those of calibration, whatever the "
        "model's mistakes (split conformal prediction, one photograph a patient).</p>"
    )
    if why := conformal["no_guarantee"]:
        told = (
            f"<p>Set to hold the true class for {100 * aim:.4g} % of new patients (split conformal prediction), but nothing is "
            f"promised: {text(why)}.</p>"
        )
    if metrics.get("external"):
        told += (
            "<p>These photographs are of another data set than those of calibration: nothing is promised of them.</p>"
        )
    names = zip(metrics["classes"], conformal["calibration_patients"], conformal["guaranteed"], strict=True)
    rows = "".join(_interval_row(metrics, conformal, *entry) for entry in names)
    last = "Promised for this class?" if conformal["per_class"] else "Calibration patients"
    return told + table + plain_table(rows, ("Class", "Coverage here", "0 to 1", last))


def _interval_row(metrics, conformal, name, calibrated, guaranteed):
    key = f"interval_coverage/{name}"
    behind = _promise(conformal, calibrated, guaranteed) if conformal["per_class"] else f"{calibrated:,}"
    return (
        f'<tr><td class="name">{text(name)}</td><td class="wide">{number(key, metrics[key]["value"])}'
        f'<small>{interval(key, metrics[key])}</small></td><td class="wide">{bar(key, metrics[key])}</td>'
        f'<td class="wide" data-label="Calibration patients">{behind}</td></tr>'
    )


def _promise(conformal, calibrated, guaranteed):
    needed = round(1 / conformal["alpha"] + 0.4999) - 1
    why = "" if calibrated >= needed else f", fewer than the {needed} that a promise needs"
    return f"{'yes' if guaranteed else 'no'}: {count(calibrated, 'calibration patient')}{why}"
