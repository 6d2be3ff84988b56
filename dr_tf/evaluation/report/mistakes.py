"""The worst mistakes as photographs: what a figure cannot show."""

import base64

import numpy as np

from dr_tf.evaluation.report.display_names import number, positive, text

SIDE = 320
EACH = 10


def groups(p, each=EACH):
    """title -> rows, the worst first; a row is named once."""
    missed = (p.truth_positive == 1) & ~p.refer
    alarms = (p.truth_positive == 0) & p.refer
    found = {
        f"Missed: {positive(p.positive)}, not referred": _first(missed, p.p_positive, each),
        f"Referred without {positive(p.positive)}": _first(alarms, -p.p_positive, each),
    }
    told = np.isin(np.arange(len(p)), np.concatenate(list(found.values())))
    if p.multi_label:
        wrong = np.where(p.truth == p.predicted, 0, 1).sum(axis=1)
        return found | {"Most labels wrong": _first((wrong > 1) & p.labelled & ~told, -wrong, each)}
    away = np.abs(p.truth - p.predicted)
    return found | {"Furthest from the true class": _first((away > 1) & p.labelled & ~told, -away, each)}


def _first(rows, key, each):
    rows = np.flatnonzero(rows)
    return rows[np.argsort(key[rows], kind="stable")][:each]


def mistake_pages(p, photographs, reasons=None, colours=None):
    """`photographs`: function of an id -> JPEG or PNG bytes (or None), or None where there are none to show.

    `reasons`: function of ids -> {id: JPEG bytes} of the same photographs under what spoke for positive; it is asked
    once, and only of what is shown. None where there are none. `colours`: a function that tells afterwards what they mean.
    """
    found = groups(p)
    overlaid = _reasons(p, found, reasons)
    parts = _told(p, colours() if colours else "") if overlaid else ""
    for title, rows in found.items():
        if len(rows):
            cards = "".join(_card(p, row, photographs, overlaid) for row in rows)
            kind = "photos beside" if overlaid else "photos"
            parts += f'<h3>{text(title[0].upper() + title[1:])}</h3><div class="{kind}">{cards}</div>'
    return parts or "<p>None: every decision was right.</p>"


def _reasons(p, found, reasons):
    names = p.ids[np.concatenate(list(found.values()))].tolist()
    return reasons(names) if reasons and names else {}


def _told(p, colours):
    return (
        f"<p>On the right the same photograph under what spoke for {text(positive(p.positive))} in the network’s eyes. "
        f"{text(colours)} No colour means that nothing spoke for it. Where a network looked is no diagnosis.</p>"
    )


def _card(p, row, photographs, overlaid):
    lines = [_said("CalibrationLabels", p.truth[row], p), _said("Decided", p.predicted[row], p)]
    if p.prediction_intervals is not None:
        low, high = p.prediction_intervals[row]
        whole = p.classes[low] if low == high else f"{p.classes[low]} to {p.classes[high]}"
        lines.append(f"Interval: {text(whole)}")
    lines.append(f"P(positive): {number('sensitivity', p.p_positive[row])}")
    return (
        f'<div class="photo">{_pictures(str(p.ids[row]), photographs, overlaid)}<strong>{text(str(p.ids[row]))}</strong>'
        f"{'<br>'.join(line for line in lines if line)}</div>"
    )


def _said(what, answer, p):
    if p.multi_label:
        if (answer < 0).any():
            return ""
        return f"{what}: {text(', '.join(name for name, yes in zip(p.classes, answer, strict=True) if yes) or 'none')}"
    return f"{what}: {text(p.classes[answer])}" if answer >= 0 else ""


def _pictures(name, photographs, overlaid):
    photograph = _picture(f"Photograph {name}", photographs and photographs(name))
    if not overlaid:
        return photograph
    return f'<div class="two">{photograph}{_picture(f"What spoke for positive in {name}", overlaid.get(name))}</div>'


def _picture(said, encoded):
    small = encoded and _small(encoded)
    if not small:
        return '<span class="none">no photograph at hand</span>'
    alt = text(said, quote=True)
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(small).decode()}">'


def _small(encoded):
    import cv2

    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = SIDE / image.shape[1]  # the eyes of a pair stand one above the other
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
