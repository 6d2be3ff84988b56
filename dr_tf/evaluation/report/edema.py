"""The risk of macular edema, where the run tells it."""

from dr_tf.evaluation.report.tables import confusion_table, figure_table
from dr_tf.evaluation.report.words import TABLES
from dr_tf.grades import DME_RISKS


def edema_section(metrics):
    if not (matrix := metrics["confusion"].get("dme")):
        return ""
    told = "<p>Told beside the grade; it has no say in who is referred.</p>"
    table = figure_table(metrics, TABLES["edema"], f"Of every {metrics['unit']} whose risk of macular edema is known.")
    return told + table + confusion_table(matrix, DME_RISKS, "Counts, and their share of the row. Outlined: right.")
