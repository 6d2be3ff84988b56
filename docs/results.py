"""Draws docs/results.png from docs/results.csv: `python docs/results.py`.

The table holds what RESULTS.md holds: one figure of one system on one split a line, with its 95 % interval, or, of
a published figure that comes without one, none.
"""

import csv
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
FIGURES = {
    "auroc": "AUROC of the decision",
    "balanced_accuracy_positive": "Balanced accuracy of the decision",
    "quadratic_kappa": "Quadratic kappa of the five grades",
}
# Split -> (its name, colour, marker, how far below the line of its system).
SPLITS = {
    "folds": ("out of fold, n 402 or 404", "#8fb4c9", "o", -0.17),
    "test": ("test, n 103", "#14597f", "o", 0.17),
    "published": ("as published", "#b4552d", "D", 0.0),
}


def main():
    with open(HERE / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    plt.rcParams.update({"font.size": 10, "font.family": "DejaVu Sans"})
    figure, panels = plt.subplots(1, len(FIGURES), sharey=True, figsize=(13, 0.62 * len(systems) + 1.5))
    for panel, (name, title) in zip(panels, FIGURES.items(), strict=True):
        panel.set_title(title, fontsize=11, loc="left")
        for row in rows:
            if row["figure"] == name:
                _draw(panel, row, systems.index(row["system"]))
        panel.grid(axis="x", color="#e3e7ea")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(systems)), systems)
    panels[0].set_ylim(len(systems) - 0.5, -0.5)
    marks = [
        plt.Line2D([], [], color=colour, marker=marker, ls="", label=said)
        for said, colour, marker, _ in SPLITS.values()
    ]
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(HERE / "results.png", dpi=110)


def _draw(panel, row, line):
    _, colour, marker, shift = SPLITS[row["split"]]
    value = float(row["value"])
    if row["low"]:
        panel.plot(
            [float(row["low"]), float(row["high"])],
            [line + shift] * 2,
            color=colour,
            lw=3,
            alpha=0.45,
            solid_capstyle="round",
        )
    panel.plot(value, line + shift, marker, color=colour, ms=6)
    panel.annotate(
        f"{value:.2f}",
        (value, line + shift),
        (0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color=colour,
    )


if __name__ == "__main__":
    main()
