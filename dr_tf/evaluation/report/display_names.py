"""What figures are called on the page, how their numbers are written, and which tables they stand in."""

import html

from dr_tf.grades import ODIR_LABELS

PERCENT = (
    "accuracy", "balanced_accuracy", "off_by_one", "exact_match", "sensitivity", "specificity", "ppv", "npv",
    "ppv_at_prevalence", "npv_at_prevalence", "recall", "precision", "interval_coverage",
    "joint_accuracy", "balanced_accuracy_positive",
    "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable", "retake_rate",
)  # fmt: skip
ON_THE_UNIT_SCALE = (
    *PERCENT, "quadratic_kappa", "f1_macro", "f1_weighted", "f1_micro", "auroc", "average_precision", "auroc_macro",
    "odir_score", "odir_kappa", "odir_f1", "odir_auc", "f1",
)  # fmt: skip

# Name -> what it is called, and what it means.
NAMES = {
    "sensitivity": ("Sensitivity", "of the positive, how many are referred"),
    "specificity": ("Specificity", "of the negative, how many are not referred"),
    "ppv": ("PPV", "of the referred, how many are positive; as common as in this set"),
    "npv": ("NPV", "of the others, how many are negative; as common as in this set"),
    "ppv_at_prevalence": ("PPV where you screen", ""),
    "npv_at_prevalence": ("NPV where you screen", ""),
    "balanced_accuracy_positive": ("Balanced accuracy of the decision", "mean of sensitivity and specificity"),
    "auroc": ("AUROC", "a positive scores above a negative"),
    "average_precision": ("Average precision", "area below precision over recall"),
    "accuracy": ("Accuracy", "the class is exactly right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes"),
    "quadratic_kappa": ("Quadratic kappa", "agreement beyond chance, far mistakes weigh more"),
    "mae": ("Mean absolute error", "classes away from the truth; lower is better"),
    "off_by_one": ("Off by one at most", "the class or its neighbour"),
    "f1_macro": ("F1, macro", "mean over classes"),
    "f1_weighted": ("F1, weighted", "by how common each class is"),
    "f1_micro": ("F1, micro", "all labels counted together"),
    "auroc_macro": ("AUROC, mean of classes", "each class against the rest"),
    "exact_match": ("Exact match", "every label is right"),
    "odir_score": ("ODIR score", ""),
    "odir_kappa": ("ODIR kappa", ""),
    "odir_f1": ("ODIR “F1”", "micro over 0 and 1, which is accuracy"),
    "odir_auc": ("ODIR AUC", "flattened patients x labels"),
    "brier": ("Brier score", "lower is better"),
    "brier_uncalibrated": ("Brier score before calibration", ""),
    "brier_positive": ("Brier score of the decision", "lower is better, 0 to 1"),
    "nll": ("Negative log-likelihood", "lower is better"),
    "nll_uncalibrated": ("Negative log-likelihood before calibration", ""),
    "ece": ("Calibration error (ECE)", "lower is better"),
    "ece_uncalibrated": ("Calibration error before calibration", ""),
    "classwise_ece": ("Calibration error, mean of classes", "lower is better"),
    "ece_positive": ("Calibration error of the decision", "lower is better"),
    "ece_positive_uncalibrated": ("Calibration error of the decision, before", ""),
    "joint_accuracy": ("Joint accuracy", "grade and risk of edema are both exactly right"),
    "sensitivity_deployed": (
        "Sensitivity of the action",
        "of the positive, how many are not cleared; a retake counts as referred",
    ),
    "specificity_deployed": ("Specificity of the action", "of the negative, how many are cleared"),
    "sensitivity_gradable": (
        "Sensitivity without retakes",
        "of the positive that are decided on, how many are referred",
    ),
    "specificity_gradable": (
        "Specificity without retakes",
        "of the negative that are decided on, how many are cleared",
    ),
    "retake_rate": ("Retakes", "asked for again, not gradable or unlike the training photographs"),
    "interval_coverage": ("Coverage", "the interval holds the true class"),
    "interval_width": ("Mean width", "classes in the interval"),
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
    "probabilities": (
        "ece_positive", "ece_positive_uncalibrated", "brier_positive", "ece", "ece_uncalibrated", "classwise_ece",
        "brier", "brier_uncalibrated", "nll", "nll_uncalibrated",
    ),
    "deployed": (
        "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable", "retake_rate",
    ),
    "intervals": ("interval_coverage", "interval_width"),
}  # fmt: skip
OF_CLASSES = {"recall": "Recall", "precision": "Precision", "f1": "F1", "auroc": "AUROC", "average_precision": "AP"}
# Of two sets beside each other, and of folds: what fits a narrow column.
SIDE_BY_SIDE = (
    "auroc", "sensitivity", "specificity", "sensitivity_deployed", "specificity_deployed", "retake_rate", "ppv", "npv",
    "quadratic_kappa", "accuracy", "balanced_accuracy",
    "joint_accuracy", "odir_score", "ece_positive", "brier_positive", "interval_coverage",
)  # fmt: skip
OF_FOLDS = ("auroc", "sensitivity", "specificity", "accuracy", "joint_accuracy", "quadratic_kappa", "odir_score")
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

# Output that does not decide -> what it tells.
OTHER_OUTPUTS = {"dme": "risk of macular edema", "grade": "grade"}

POSITIVES = {
    "any_dr": "any DR (grade 1 or more)",
    "referable": "referable DR (grade 2 or more)",
    "referable_or_dme": "referable DR (grade 2 or more) or DME near the fovea",
    "referable_dme": "DME near the fovea",
    "vision_threatening": "vision-threatening DR (grade 3 or more)",
}

text = html.escape


def title_of(name):
    """What a metric is called, and what it means."""
    if name in NAMES:
        return NAMES[name]
    kinds = {
        "_accuracy": ("Accuracy of the {}", "exactly right"),
        "_quadratic_kappa": ("Quadratic kappa of the {}", "agreement beyond chance"),
    }
    for kind, (title, meaning) in kinds.items():
        if name.endswith(kind):
            output = name.removesuffix(kind)
            return title.format(OTHER_OUTPUTS.get(output, output.replace("_", " "))), meaning
    return name.replace("_", " "), ""


def is_percent(name):
    name = name.split("/")[0]
    return name in PERCENT or (name not in NAMES and name.endswith("_accuracy"))


def on_the_unit_scale(name):
    return is_percent(name) or name.split("/")[0] in ON_THE_UNIT_SCALE or name.endswith("_quadratic_kappa")


def number(name, value):
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if is_percent(name) else _minus(f"{value:.3f}")


def interval(name, figure):
    if figure["low"] is None:
        return ""
    if is_percent(name):
        return f"{100 * figure['low']:.1f} – {100 * figure['high']:.1f} %"
    return _minus(f"{figure['low']:.3f} – {figure['high']:.3f}")


def _minus(number):
    return number.replace("-", "−")


def positive(name):
    letter = name.removeprefix("odir_")
    return POSITIVES.get(name, f"{ODIR_LABELS[letter]} (ODIR {letter})" if letter in ODIR_LABELS else name)


def class_name(name):
    """ODIR's letters with what they stand for; other classes are called what they are."""
    return f"{name} {ODIR_LABELS[name]}" if name in ODIR_LABELS else name


def count(n, what):
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def thresholds(values):
    """Of `Predictions.thresholds`: one, or from the lowest to the highest."""
    ends = dict.fromkeys(f"{value:.3g}" for value in (values[0], values[-1]))
    return " – ".join(ends)
