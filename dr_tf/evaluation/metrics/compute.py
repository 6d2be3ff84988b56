"""Every figure with its 95 % interval and the interval's method.

One photograph a patient: Wilson for proportions, DeLong for AUROC, the bootstrap for the rest. Several: the patient
bootstrap, and Obuchowski's variance for AUROC. Values are scikit-learn's where it has them.
"""

import math

import numpy as np

from dr_tf.evaluation.metrics.binary import binary_metrics
from dr_tf.evaluation.metrics.calibration_error import debiased_interval
from dr_tf.evaluation.metrics.deployed import deployed_metrics
from dr_tf.evaluation.metrics.multi_label import multi_label_metrics
from dr_tf.evaluation.metrics.multiclass import multiclass_metrics
from dr_tf.evaluation.metrics.other_outputs import other_output_metrics
from dr_tf.evaluation.statistics.auroc import auroc_interval
from dr_tf.evaluation.statistics.bootstrap import bootstrap
from dr_tf.evaluation.statistics.proportions import wilson

# Each answers for the predictions that it fits, and with nothing for others.
FAMILIES = (binary_metrics, deployed_metrics, multiclass_metrics, multi_label_metrics, other_output_metrics)
BOOTSTRAP_SAMPLES = 2000


def compute_metrics(predictions, *, prevalence=None, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0, only=None):
    """name -> {"value", "low", "high", "method", "n"}, and "note" where a figure needs one. None: not defined.

    `prevalence`: the share of diseased among those screened, for PPV and NPV. `only`: the names wanted.
    """
    points, statistics = parts(predictions, prevalence)
    wanted = {name: make() for name, make in points.items() if only is None or name in only}
    analytic = {name for name, point in wanted.items() if _is_analytic(point, predictions.clustered)}
    drawn = _draw(predictions, statistics, set(wanted) - analytic, bootstrap_samples, seed)
    unknown = patients_unknown(predictions)
    return {name: _figure(point, drawn.get(name), predictions.clustered, unknown) for name, point in wanted.items()}


def parts(predictions, prevalence=None):
    """(name -> function that makes its Estimate, statistics for the bootstrap) of all families."""
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


def _draw(predictions, statistics, names, bootstrap_samples, seed):
    needed = [statistic for statistic in statistics if statistic.names & names]
    patients = int(predictions.patient_codes.max()) + 1
    return bootstrap(needed, patients=patients, bootstrap_samples=bootstrap_samples, seed=seed) if needed else {}


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
    """(low, high, method) of the bootstrap_samples; those in which a class was empty, so that nothing came out, are counted."""
    if drawn is None:
        return math.nan, math.nan, "none"
    valid = drawn[np.isfinite(drawn)]
    method = f"{method}, {len(drawn)} bootstrap_samples"
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
    """All right or all wrong: the bootstrap_samples cannot tell how much luck was in it. Taking each patient for one photograph
    is the widest that Wilson's interval can be."""
    if point.hits in (0, point.n) and point.patients:
        return *wilson(round(point.value) * point.patients, point.patients), f"Wilson on {point.patients} patients"
    return math.nan, math.nan, f"none: the same in all of {method}"
