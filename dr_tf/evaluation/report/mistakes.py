"""The worst mistakes as photographs: what a figure cannot show."""

import base64

import numpy as np

from dr_tf.evaluation.report.words import number, positive, text

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
        wrong = np.where(p.truth == p.decided, 0, 1).sum(axis=1)
        return found | {"Most labels wrong": _first((wrong > 1) & p.labelled & ~told, -wrong, each)}
    away = np.abs(p.truth - p.decided)
    return found | {"Furthest from the true class": _first((away > 1) & p.labelled & ~told, -away, each)}


def _first(rows, key, each):
    rows = np.flatnonzero(rows)
    return rows[np.argsort(key[rows], kind="stable")][:each]


def mistake_pages(p, photographs):
    """`photographs`: function of an id -> JPEG or PNG bytes (or None), or None where there are none to show."""
    parts = ""
    for title, rows in groups(p).items():
        if len(rows):
            cards = "".join(_card(p, row, photographs) for row in rows)
            parts += f'<h3>{text(title[0].upper() + title[1:])}</h3><div class="photos">{cards}</div>'
    return parts or "<p>None: every decision was right.</p>"


def _card(p, row, photographs):
    lines = [_said("Truth", p.truth[row], p), _said("Decided", p.decided[row], p)]
    if p.intervals is not None:
        low, high = p.intervals[row]
        whole = p.classes[low] if low == high else f"{p.classes[low]} to {p.classes[high]}"
        lines.append(f"Interval: {text(whole)}")
    lines.append(f"P(positive): {number('sensitivity', p.p_positive[row])}")
    return (
        f'<div class="photo">{_picture(p.ids[row], photographs)}<strong>{text(str(p.ids[row]))}</strong>'
        f"{'<br>'.join(line for line in lines if line)}</div>"
    )


def _said(what, answer, p):
    if p.multi_label:
        if (answer < 0).any():
            return ""
        return f"{what}: {text(', '.join(name for name, yes in zip(p.classes, answer, strict=True) if yes) or 'none')}"
    return f"{what}: {text(p.classes[answer])}" if answer >= 0 else ""


def _picture(name, photographs):
    encoded = photographs and photographs(str(name))
    small = encoded and _small(encoded)
    if not small:
        return '<span class="none">no photograph at hand</span>'
    alt = text(f"Photograph {name}", quote=True)
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(small).decode()}">'


def _small(encoded):
    import cv2

    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
