"""An evaluation in a few lines, for a terminal."""

NAMES = (
    "balanced_accuracy",
    "accuracy",
    "joint_accuracy",
    "quadratic_kappa",
    "auroc",
    "sensitivity",
    "specificity",
    "sensitivity_deployed",
    "specificity_deployed",
    "retake_rate",
    "ece",
)


def summary(metrics):
    how = metrics["protocol"] and f" ({metrics['protocol']})"
    whom = f"{metrics['n']} {metrics['unit']}s"
    if metrics["unit"] != "patient":
        whom += f" of {metrics['patients']} patients" if metrics["patients_known"] else " of unknown patients"
    yield f"{metrics['dataset']}, {metrics['split']}{how}: {whom}"
    for name in NAMES:
        if (figure := metrics.get(name)) and figure["value"] is not None:
            yield f"{name:20} {figure['value']:.3f}  {interval(figure)}"
    yield from metrics["caveats"]


def differences(found):
    """Of what `compare` gave."""
    yield f"{found['n']} cases of {found['patients']} patients; the difference is second minus first"
    for name, count in found["left_out"].items():
        if count:
            yield f"left out, as only the {name} has them: {count}"
    for name, figure in found["metrics"].items():
        if figure["value"] is not None:
            both = f"{figure['first']:7.3f} {figure['second']:7.3f}"
            yield f"{name:28} {both} {figure['value']:+7.3f}  {interval(figure, '+.3f')}"


def interval(figure, form=".3f"):
    if figure["low"] is None:
        return f"(no interval: {figure['method']})"
    return f"({figure['low']:{form}} to {figure['high']:{form}}, {figure['method']})"
