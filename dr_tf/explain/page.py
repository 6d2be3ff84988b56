"""The page beside the pictures: every photograph with its decision, its probabilities and their evidence."""

import html
import urllib.parse

from dr_tf.explain.captions import about_colours, finding, plain_target, verdict
from dr_tf.explain.overlay import COLORMAPS, key
from dr_tf.explain.pictures import PANELS
from dr_tf.safe_names import printable

METHOD_NAMES = {"grad_cam": "Grad-CAM", "grad_cam_plus_plus": "Grad-CAM++", "hires_cam": "HiResCAM"}
_CSS = """
:root { color-scheme: light; --ink: #1c2430; --quiet: #5c6675; --line: #d9dee5; --accent: #14597f; --alarm: #b3261e; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
header { background: #f4f7f9; border-bottom: 1px solid var(--line); }
header div, main, footer { max-width: 76rem; margin: 0 auto; padding: 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { margin: .35rem 0; max-width: 56rem; }
.quiet { color: var(--quiet); font-size: .875rem; }
article { border-bottom: 1px solid var(--line); padding: 1.4rem 0; break-inside: avoid; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.tag { display: inline-block; padding: 0 .55rem; border-radius: .7rem; background: #e8f0f5; font-size: .85rem; margin-right: .4rem; }
.refer { background: #fbe3e1; color: var(--alarm); } .retake { background: #fdf0dc; color: #7a4a00; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; margin: .6rem 0; }
.panels a { display: block; overflow: hidden; background: #000; border-radius: .35rem; }
.panels img { display: block; width: 300%; max-width: none; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .8rem; }
.keys span { display: inline-block; margin-right: 2rem; white-space: nowrap; font-size: .875rem; }
.keys i { display: inline-block; width: 9rem; height: .7rem; border-radius: .15rem; vertical-align: baseline; }
.told { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.3fr); gap: .5rem 2rem; align-items: start; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th { text-align: left; color: var(--quiet); font-weight: 600; font-size: .8rem; }
th, td { padding: .15rem .6rem .15rem 0; border-bottom: 1px solid var(--line); }
td:nth-child(n+2), th:nth-child(n+2) { text-align: right; white-space: nowrap; }
.bar { width: 34%; } .bar i { display: block; height: .6rem; background: #9fc3d8; border-radius: .15rem; min-width: 1px; }
tr.asked td { font-weight: 600; }
@media (max-width: 44rem) {
  body { font-size: 15px; }
  .panels { grid-template-columns: 1fr 1fr; } .panels figure:first-child { grid-column: 1 / -1; }
  .told { grid-template-columns: 1fr; }
}
@media print { .panels, tr { break-inside: avoid; } * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""


def page(entries, explainer, target, full=None, sheets=()):
    """HTML whose pictures and contact sheets lie beside it; `full`: the map's value of full colour, None: stretched."""
    name, method = plain_target(target, explainer.head.positive), METHOD_NAMES[explainer.method]
    n = f"{len(entries):,} photograph{'' if len(entries) == 1 else 's'}"
    title = f"What speaks for {name}: {n}"
    cards = "".join(_card(entry, target) for entry in entries)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><title>{_text(title)}</title><style>{_CSS}</style></head><body><header><div><h1>{_text(title)}</h1>'
        f"<p>{_counts(entries)}</p><p>Maps by {method} at {_text(explainer.place.name)}, of the evidence for {_text(name)}. "
        f"They show only what speaks for it. {_text(about_colours(full, name))}</p>{_keys()}<p class='quiet'>Evidence is the network’s own, before its probabilities are "
        "calibrated: of a class its logit, of all else log-odds, which speak against it below 0. Where a network looked is "
        "no diagnosis, and a place without colour is not therefore healthy.</p>"
        f"{_links(sheets)}</div></header><main>{cards}</main><footer class='quiet'>Made by dr_tf. Research software, not a "
        "medical device.</footer></body></html>\n"
    )


def _keys():
    return f"<p class='keys'>{''.join(map(_key, COLORMAPS))}</p>"


def _key(colormap):
    colours = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in key(colormap, 17))
    return (
        f"<span>none <i style='background: linear-gradient(to right, {colours})'></i> full colour ({colormap})</span>"
    )


def _counts(entries):
    actions = [entry.decision.action for entry in entries]
    counted = ", ".join(f"{action}: {actions.count(action):,}" for action in ("refer", "clear", "retake"))
    unread = [printable(entry.decision.case) for entry in entries if entry.evidence is None]
    return counted + (f". Not usable: {_text(', '.join(unread))}." if unread else ".")


def _links(sheets):
    links = (
        f'<a href="{name}">{i}</a>' if i > 1 else f'<a href="{name}">Contact sheet</a>'
        for i, name in enumerate(sheets, 1)
    )
    return f"<p>{' · '.join(links)}</p>" if sheets else ""


def _card(entry, target):
    decision = entry.decision
    heading = f"<h2>{_text(printable(decision.case))}</h2>"
    said = verdict(decision).removeprefix(decision.action + ": ")
    said = f'<p><span class="tag {decision.action}">{decision.action}</span>{_text(said)}</p>'
    if entry.evidence is None:
        return f"<article>{heading}{said}</article>"
    shows = _text(entry.undrawn or finding(entry, target))
    told = f"<div>{said}<p>{shows}</p></div>"
    panels = _panels(entry) if entry.picture else ""
    return f'<article>{heading}{panels}<div class="told">{told}{_table(entry, target)}</div></article>'


def _panels(entry):
    """The one picture, cut: links open it as a whole."""
    source, figures = urllib.parse.quote(entry.picture), ""
    for i, panel in enumerate(PANELS):
        picture = f'<img loading="lazy" src="{source}" alt="{panel}" style="margin-left: -{100 * i}%">'
        figures += (
            f'<figure><a href="{source}" style="aspect-ratio: {entry.aspect:.4f}">{picture}</a>'
            f"<figcaption>{panel}</figcaption></figure>"
        )
    return f'<div class="panels">{figures}</div>'


def _table(entry, target):
    p, plain = (
        entry.decision.probabilities,
        {name: plain_target(name, entry.decision.positive) for name in entry.evidence},
    )
    # Of two classes one is what is asked for: it is not told twice.
    alone = target not in p and plain[target] not in [plain[name] for name in p]
    told = [*p, *([target] if alone else [])]
    rows = "".join(_row(plain[name], p.get(name), entry.evidence[name], plain[name] == plain[target]) for name in told)
    head = "<tr><th></th><th>probability</th><th></th><th>evidence</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _row(label, p, evidence, asked):
    shown = ("", "") if p is None else (f"{p:.3f}", f'<i style="width: {100 * p:.1f}%"></i>')
    kind = ' class="asked"' if asked else ""
    return f'<tr{kind}><td>{_text(label)}</td><td>{shown[0]}</td><td class="bar">{shown[1]}</td><td>{evidence:+.2f}</td></tr>'


def _text(words):
    return html.escape(str(words))
