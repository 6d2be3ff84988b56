"""The outputs that are told beside the one that decides, such as the risk of macular edema."""

from dr_tf.evaluation.report.display_names import OTHER_OUTPUTS, text
from dr_tf.evaluation.report.tables import confusion_table, figure_table


def other_outputs_section(metrics):
    """`metrics["other_outputs"]`: {output: its classes}."""
    sections = [_section(metrics, output, classes) for output, classes in metrics.get("other_outputs", {}).items()]
    told = "<p>Told beside the decision; it has no say in who is referred.</p>"
    return told + "".join(sections) if any(sections) else ""


def _section(metrics, output, classes):
    matrix = metrics["confusion"].get(output)
    if not matrix:
        return ""
    name = OTHER_OUTPUTS.get(output, output.replace("_", " "))
    names = ("joint_accuracy", f"{output}_accuracy", f"{output}_quadratic_kappa")
    table = figure_table(metrics, names, f"Of every {metrics['unit']} whose label is known.")
    counts = confusion_table(matrix, classes[: len(matrix)], "Counts, and their share of the row. Outlined: right.")
    return f"<h3>{text(name[0].upper() + name[1:])}</h3>" + table + counts
