"""Display names and descriptions of the metrics, and which tables of the report they stand in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dr_tf.grades import ODIR_LABELS
from dr_tf.rendering import Metric

PERCENTAGES = (
    "accuracy", "balanced_accuracy", "off_by_one", "exact_match", "sensitivity", "specificity", "ppv", "npv",
    "ppv_at_prevalence", "npv_at_prevalence", "recall", "sensitivity_at_specificity_0.9", "precision", "interval_coverage",
    "joint_accuracy", "balanced_accuracy_positive",
    "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable", "retake_rate",
)  # fmt: skip
ZERO_TO_ONE = (
    *PERCENTAGES, "quadratic_kappa", "f1_macro", "f1_weighted", "f1_micro", "auroc", "average_precision", "auroc_macro",
    "odir_score", "odir_kappa", "odir_f1", "odir_auc", "f1",
)  # fmt: skip

# Name -> (title, description).
NAMES = {
    "sensitivity": ("Sensitivity", "share of the positive cases that are referred"),
    "specificity": ("Specificity", "share of the negative cases that are not referred"),
    "ppv": ("PPV", "share of the referred cases that are positive, at the prevalence of this set"),
    "npv": ("NPV", "share of the cases not referred that are negative, at the prevalence of this set"),
    "ppv_at_prevalence": ("PPV at the screening prevalence", ""),
    "npv_at_prevalence": ("NPV at the screening prevalence", ""),
    "balanced_accuracy_positive": ("Balanced accuracy of the decision", "mean of sensitivity and specificity"),
    "auroc": ("AUROC", "probability that a positive case scores above a negative one"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "accuracy": ("Accuracy", "share of cases whose predicted class is correct"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes"),
    "quadratic_kappa": ("Quadratic kappa", "agreement beyond chance; large errors weigh more"),
    "mae": ("Mean absolute error", "in classes; lower is better"),
    "off_by_one": ("Off by one at most", "share of cases predicted as the true class or its neighbour"),
    "f1_macro": ("F1, macro", "mean of the F1 scores of the classes"),
    "f1_weighted": ("F1, weighted", "mean of the F1 scores, weighted by class frequency"),
    "f1_micro": ("F1, micro", "all labels counted together"),
    "auroc_macro": ("AUROC, macro", "mean over the classes, each against the rest"),
    "exact_match": ("Exact match", "share of cases with every label correct"),
    "odir_score": ("ODIR score", ""),
    "odir_kappa": ("ODIR kappa", ""),
    "odir_f1": ("ODIR “F1”", "micro-averaged over 0 and 1, which equals accuracy"),
    "odir_auc": ("ODIR AUC", "over all pairs of patient and label"),
    "brier": ("Brier score", "lower is better"),
    "brier_uncalibrated": ("Brier score before calibration", ""),
    "brier_positive": ("Brier score of the decision", "0 to 1; lower is better"),
    "nll": ("Negative log-likelihood", "lower is better"),
    "nll_uncalibrated": ("Negative log-likelihood before calibration", ""),
    "ece": ("Expected calibration error (ECE)", "lower is better"),
    "ece_uncalibrated": ("ECE before calibration", ""),
    "classwise_ece": ("Classwise ECE", "mean over the classes; lower is better"),
    "ece_positive": ("ECE of the decision", "lower is better"),
    "ece_positive_uncalibrated": ("ECE of the decision before calibration", ""),
    "joint_accuracy": ("Joint accuracy", "share of cases with both the grade and the risk of macular edema correct"),
    "sensitivity_deployed": (
        "Sensitivity, deployed",
        "share of the positive cases that are not cleared; a retake counts as referred",
    ),
    "specificity_deployed": ("Specificity, deployed", "share of the negative cases that are cleared"),
    "sensitivity_gradable": ("Sensitivity, gradable cases only", "share of the positive cases that are referred"),
    "specificity_gradable": ("Specificity, gradable cases only", "share of the negative cases that are cleared"),
    "retake_rate": ("Retake rate", "share of cases that are not gradable or out-of-distribution"),
    "interval_coverage": ("Coverage", "share of cases whose prediction set contains the true class"),
    "interval_width": ("Mean size", "classes in the prediction set"),
}

TABLES = {
    "decision": (
        "sensitivity", "specificity", "balanced_accuracy_positive", "auroc", "average_precision", "ppv", "npv",
        "ppv_at_prevalence", "npv_at_prevalence",
    ),
    "classes": (
        "quadratic_kappa", "accuracy", "balanced_accuracy", "off_by_one", "mae", "f1_micro", "f1_macro", "f1_weighted",
        "auroc_macro", "exact_match", "odir_score", "odir_kappa", "odir_f1", "odir_auc",
    ),
    "calibration": (
        "ece_positive", "ece_positive_uncalibrated", "brier_positive", "ece", "ece_uncalibrated", "classwise_ece",
        "brier", "brier_uncalibrated", "nll", "nll_uncalibrated",
    ),
    "deployed": (
        "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable", "retake_rate",
    ),
    "prediction_sets": ("interval_coverage", "interval_width"),
}  # fmt: skip
PER_CLASS = {
    "recall": "Recall", "precision": "Precision", "f1": "F1", "auroc": "AUROC", "average_precision": "AP",
    "sensitivity_at_specificity_0.9": "Sensitivity at 90 % specificity",
}  # fmt: skip
# The metrics that are shown for two evaluations side by side, for each fold, and for each subgroup.
SIDE_BY_SIDE = (
    "auroc", "sensitivity", "specificity", "sensitivity_deployed", "specificity_deployed", "retake_rate", "ppv", "npv",
    "quadratic_kappa", "accuracy", "balanced_accuracy", "auroc_macro", "f1_macro",
    "joint_accuracy", "odir_score", "ece_positive", "brier_positive", "interval_coverage",
)  # fmt: skip
OF_FOLDS = ("auroc", "sensitivity", "specificity", "accuracy", "joint_accuracy", "quadratic_kappa", "odir_score")
OF_SUBGROUPS = ("sensitivity", "specificity", "auroc", "accuracy", "exact_match")
HEADLINES = (
    "auroc",
    "sensitivity",
    "specificity",
    "sensitivity_deployed",
    "specificity_deployed",
    "retake_rate",
    "quadratic_kappa",
    "odir_score",
    "accuracy",
    "joint_accuracy",
    "f1_macro",
)

# Output that does not decide -> what it predicts.
OTHER_OUTPUTS = {"dme": "risk of macular edema", "grade": "grade", "referable": "referable DR"}
# Metric of such an output, named OUTPUT_SUFFIX -> (title, description).
_OTHER_OUTPUT_METRICS = {
    "_auroc": ("AUROC of the {}", "probability that a positive case scores above a negative one"),
    "_accuracy": ("Accuracy of the {}", "share of cases whose predicted class is correct"),
    "_quadratic_kappa": ("Quadratic kappa of the {}", "agreement beyond chance; large errors weigh more"),
}

POSITIVES = {
    "any_dr": "any DR (grade 1 or more)",
    "referable": "referable DR (grade 2 or more)",
    "referable_or_dme": "referable DR (grade 2 or more) or DME near the fovea",
    "referable_dme": "DME near the fovea",
    "vision_threatening": "vision-threatening DR (grade 3 or more)",
}


def displayed(name: str, metric: Mapping[str, Any], *, tag: str = "", is_alarming: bool = False) -> Metric:
    """Return a metric of metrics.json as the templates print it.

    Args:
        name: The metric's key, such as "auroc" or "recall/mild NPDR".
        metric: Its entry in metrics.json: value, confidence interval, method and number of cases.
        tag: A short verdict printed beside the value.
        is_alarming: Whether the tag is printed in the warning colour.
    """
    title, description = _title_and_description(name)
    kind = name.split("/")[0]
    is_percent = kind in PERCENTAGES or (kind not in NAMES and kind.endswith("_accuracy"))
    return Metric(
        title,
        metric["value"],
        metric["low"],
        metric["high"],
        description="; ".join(part for part in (description, metric.get("note", "")) if part),
        n=metric.get("n"),
        method=metric.get("method", "").replace(": may be too narrow", ""),  # one of the caveats explains it
        is_percent=is_percent,
        has_bar=is_percent or kind in ZERO_TO_ONE or kind.endswith(("_quadratic_kappa", "_auroc")),
        tag=tag,
        is_alarming=is_alarming,
    )


def displayed_metrics(metrics: Mapping[str, Any], names: Iterable[str]) -> list[Metric]:
    """Return those of the named metrics that were computed."""
    return [displayed(name, metrics[name]) for name in names if name in metrics]


def _title_and_description(name: str) -> tuple[str, str]:
    if name in NAMES:
        return NAMES[name]
    for suffix, (title, description) in _OTHER_OUTPUT_METRICS.items():
        if name.endswith(suffix):
            return title.format(output_name(name.removesuffix(suffix))), description
    return name.replace("_", " "), ""


def output_name(output: str) -> str:
    """Return what an output predicts: "risk of macular edema" for "dme"."""
    return OTHER_OUTPUTS.get(output, output.replace("_", " "))


def positive(name: str) -> str:
    """Return the definition of a positive case in words: "referable DR (grade 2 or more)" for "referable"."""
    letter = name.removeprefix("odir_")
    return POSITIVES.get(name, f"{ODIR_LABELS[letter]} (ODIR {letter})" if letter in ODIR_LABELS else name)


def class_name(name: str) -> str:
    """Return the name of a class; a letter of ODIR is followed by the disease that it stands for."""
    return f"{name} {ODIR_LABELS[name]}" if name in ODIR_LABELS else name


def thresholds(values: Sequence[float]) -> str:
    """Format the decision thresholds in ascending order: the one, or the lowest and the highest of several folds."""
    return " – ".join(dict.fromkeys(f"{value:.3g}" for value in (values[0], values[-1])))
