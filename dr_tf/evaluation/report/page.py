"""The evaluation report: one self-contained HTML page without scripts, for screens, phones and paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.charts import charts, svg_data_uri
from dr_tf.evaluation.report.display_names import HEADLINES, displayed_metrics, positive
from dr_tf.evaluation.report.explanations import scorecard_section
from dr_tf.evaluation.report.mistakes import DrawOverlays, ReadImage, mistake_gallery
from dr_tf.evaluation.report.model_card import ModelCard, model_card_entries
from dr_tf.evaluation.report.sections import metric_sections
from dr_tf.rendering import render


def report(
    predictions: Predictions,
    metrics: Mapping[str, Any],
    *,
    card: ModelCard | None = None,
    images: ReadImage | None = None,
    overlays: DrawOverlays | None = None,
    overlay_legend: Callable[[], str] | None = None,
    explanations: Mapping[str, Any] | None = None,
) -> str:
    """Render the evaluation report.

    Args:
        predictions: The predictions that were evaluated.
        metrics: Their metrics, as `measure` returns them.
        card: The model card of the run.
        images: Returns the JPEG or PNG file of a case id, or None; None where there are no images.
        overlays: Returns {id: JPEG file} of images under their class-activation maps; None where there are none.
        overlay_legend: Called after `overlays`, returns what the colours of the maps mean.
        explanations: The scorecard of the class-activation maps; None where they were not scored.

    Returns:
        The page, with its style sheet and all pictures inside.
    """
    card = card or ModelCard()
    drawn = {name: (svg_data_uri(figure), caption) for name, (figure, caption) in charts(predictions, metrics).items()}
    sections = metric_sections(predictions, metrics) | {
        "selective_prediction": [name for name in drawn if name.startswith("referral_")],
        "mistakes": mistake_gallery(predictions, images, overlays, overlay_legend),
        "explanations": scorecard_section(explanations),
        "model_card": model_card_entries(card, metrics),
    }
    return render(
        "report.html",
        run=card.name,
        metrics=metrics,
        positive=positive(metrics["positive"]),
        headlines=displayed_metrics(metrics, HEADLINES),
        charts=drawn,
        sections=sections,
    )


def scorecard_page(scorecard: Mapping[str, Any], *, run: str, caveats: Sequence[str] = ()) -> str:
    """Render the report of maps alone, where no label is known.

    Args:
        scorecard: The scorecard of the maps.
        run: Name of the run.
        caveats: What a reader of the scores has to know about this set.
    """
    return render("scorecard.html", run=run, scorecard=scorecard, caveats=caveats, section=scorecard_section(scorecard))
