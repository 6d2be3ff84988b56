"""Every figure with its 95 % interval and the interval's method.

One photograph a patient: Wilson for proportions, DeLong for AUROC, the bootstrap for the rest. Several: the patient
bootstrap, and Obuchowski's variance for AUROC. Values are scikit-learn's where it has them.
"""

import math

import numpy as np

from dr_tf.evaluation.auroc import auroc_interval
from dr_tf.evaluation.calibration_error import debiased_interval
from dr_tf.evaluation.deployed import deployed_figures
from dr_tf.evaluation.multi_label import multi_label_figures
from dr_tf.evaluation.other_outputs import other_figures
from dr_tf.evaluation.positive import positive_figures
from dr_tf.evaluation.proportions import wilson
from dr_tf.evaluation.resampling import bootstrap
from dr_tf.evaluation.single_label import single_label_figures

# Each answers for the predictions that it fits, and with nothing for others.
FAMILIES = (positive_figures, deployed_figures, single_label_figures, multi_label_figures, other_figures)
ROUNDS = 2000


def figures(predictions, *, prevalence=None, rounds=ROUNDS, seed=0, only=None):
    """name -> {"value", "low", "high", "method", "n"}, and "note" where a figure needs one. None: not defined.

    `prevalence`: the share of diseased among those screened, for PPV and NPV. `only`: the names wanted.
    """
    points, statistics = parts(predictions, prevalence)
    wanted = {name: make() for name, make in points.items() if only is None or name in only}
    analytic = {name for name, point in wanted.items() if _is_analytic(point, predictions.clustered)}
    drawn = _draw(predictions, statistics, set(wanted) - analytic, rounds, seed)
    unknown = patients_unknown(predictions)
    return {name: _figure(point, drawn.get(name), predictions.clustered, unknown) for name, point in wanted.items()}


def parts(predictions, prevalence=None):
    """(name -> function that makes its Point, statistics for the bootstrap) of all families."""
    each = [family(predictions, prevalence) for family in FAMILIES]
    points = {name: point for family, _ in each for name, point in family.items()}
    return points, [statistic for _, statistics in each for statistic in statistics]


def patients_unknown(predictions):
    """What has to be said beside an interval, or nothing."""
    unknown = int((~predictions.patient_known).sum())
    if not unknown:
        return ""
    of_whom = "" if unknown == len(predictions) else f" for {unknown} of {len(predictions)}"
    return f"patients unknown{of_whom}: may be too narrow"


def _is_analytic(point, clustered):
    return math.isnan(point.value) or point.ranking is not None or (point.hits is not None and not clustered)


def _draw(predictions, statistics, names, rounds, seed):
    needed = [statistic for statistic in statistics if statistic.names & names]
    patients = int(predictions.patient_codes.max()) + 1
    return bootstrap(needed, patients=patients, rounds=rounds, seed=seed) if needed else {}


def _figure(point, drawn, clustered, unknown):
    low, high, method = _interval(point, drawn, clustered)
    if unknown and not math.isnan(low):
        method = f"{method}; {unknown}"
    figure = {"value": point.value, "low": low, "high": high}
    figure = {key: None if math.isnan(value) else float(value) for key, value in figure.items()}
    return figure | {"method": method, "n": point.n} | ({"note": point.note} if point.note else {})


def _interval(point, drawn, clustered):
    if math.isnan(point.value):
        return math.nan, math.nan, "undefined: nothing to count, or a class is empty"
    if point.ranking is not None:
        return auroc_interval(*point.ranking)[1:]
    if point.hits is not None and not clustered:
        return *wilson(point.hits, point.n), "Wilson"
    return percentiles(point, drawn, "patient bootstrap" if clustered else "bootstrap")


def percentiles(point, drawn, method):
    """(low, high, method) of the rounds; those in which a class was empty, so that nothing came out, are counted."""
    if drawn is None:
        return math.nan, math.nan, "none"
    valid = drawn[np.isfinite(drawn)]
    method = f"{method}, {len(drawn)} rounds"
    if len(valid) < len(drawn):
        method += f", {len(drawn) - len(valid)} with an empty class left out"
    if len(valid) < len(drawn) / 2:
        return math.nan, math.nan, f"none: {method}"
    if point.calibration_error:
        return *debiased_interval(point.value, valid), f"{method}, corrected for the noise of bins"
    if np.ptp(valid) < 1e-12:
        return _same_in_every_round(point, method)
    return *np.quantile(valid, (0.025, 0.975)), method


def _same_in_every_round(point, method):
    """All right or all wrong: the rounds cannot tell how much luck was in it. Taking each patient for one photograph
    is the widest that Wilson's interval can be."""
    if point.hits in (0, point.n) and point.patients:
        return *wilson(round(point.value) * point.patients, point.patients), f"Wilson on {point.patients} patients"
    return math.nan, math.nan, f"none: the same in all of {method}"
