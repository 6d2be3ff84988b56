"""The report's look: dark on white, narrow screens and paper included."""

INK, QUIET, LINE, ACCENT, SOFT, ALARM, SECOND = (
    "#1c2430",
    "#5c6675",
    "#d9dee5",
    "#14597f",
    "#e8f0f5",
    "#b3261e",
    "#c77700",
)

CSS = """
:root { color-scheme: light; --ink: #1c2430; --quiet: #5c6675; --line: #d9dee5; --accent: #14597f; --soft: #f4f7f9;
  --alarm: #b3261e; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
main, header > div, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { border-bottom: 1px solid var(--line); background: var(--soft); padding: 1.75rem 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 52rem; }
a { color: var(--accent); }
.quiet, caption, figcaption { color: var(--quiet); font-size: .875rem; }
.over { color: var(--accent); font-size: .8rem; font-weight: 600; letter-spacing: .04em; margin: 0 0 .35rem; }
nav { margin-top: 1rem; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; margin: 1.5rem 0 1rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem .95rem .9rem; }
.card .value { font-size: 1.75rem; font-weight: 650; line-height: 1.2; }
.card .name { font-size: .875rem; font-weight: 600; }
.card .range { font-size: .875rem; }
.card .bar { margin: .45rem 0 .3rem; }
.caveats { border-left: 4px solid var(--alarm); background: #fdf3f2; padding: .6rem 1rem; margin: 1rem 0; border-radius: .25rem; }
.caveats ul { margin: .2rem 0; padding-left: 1.1rem; }
.bar { position: relative; display: block; height: .7rem; min-width: 6rem; background:
  linear-gradient(to right, var(--line) 1px, transparent 1px) 0 0 / 25% 100%, #f1f4f7; border-right: 1px solid var(--line); }
.bar i { position: absolute; top: 0; bottom: 0; background: #9fc3d8; }
.bar b { position: absolute; top: -2px; bottom: -2px; width: 3px; margin-left: -1.5px; background: var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .5rem 0 1rem; }
caption { text-align: left; padding-bottom: .4rem; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: .8rem; }
th, td { padding: .38rem .6rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
td.name { font-weight: 550; }
td.name small, td small { display: block; font-weight: 400; color: var(--quiet); line-height: 1.3; }
td.number { white-space: nowrap; }
table.dense { table-layout: fixed; } table.dense td { padding-right: 1.1rem; }
table.dense th { padding-right: .8rem; overflow-wrap: anywhere; vertical-align: bottom; }
.short { display: none; }
.scroll { overflow-x: auto; }
table.confusion { width: auto; max-width: 100%; border-collapse: separate; border-spacing: 2px; }
.confusion td, .confusion th { border: 0; text-align: center; padding: .3rem .35rem; }
.confusion thead th { vertical-align: bottom; }
.confusion tbody th { text-align: right; padding-right: .6rem; white-space: nowrap; }
.confusion td { min-width: 4rem; height: 3rem; border-radius: .25rem; }
.confusion td small { color: inherit; opacity: .85; }
.confusion td.right { outline: 2px solid var(--accent); outline-offset: -2px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem 1.5rem; align-items: start; }
figure { margin: .75rem 0; max-width: 32rem; break-inside: avoid; }
figure img { width: 100%; height: auto; display: block; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .9rem; }
.photo { font-size: .85rem; line-height: 1.4; break-inside: avoid; overflow-wrap: anywhere; }
.photo img, .photo .none { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: .35rem; display: block; }
.photo .none { color: #cdd3db; display: grid; place-items: center; padding: 1rem; text-align: center; }
.photos.beside { grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.1rem 1.4rem; }
.photo .two { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem; } .photo .two img { aspect-ratio: auto; }
.photo strong { display: block; margin-top: .35rem; }
.tag { display: inline-block; padding: 0 .45rem; border-radius: .6rem; font-size: .8rem; background: #eef1f4; white-space: nowrap; }
.tag.lower { background: #fbe3e1; color: var(--alarm); font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(8rem, 13rem) 1fr; gap: .35rem 1rem; margin: .75rem 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
footer { padding-top: 2rem; padding-bottom: 3rem; }
@media (max-width: 40rem) {
  body { font-size: 15px; }
  main, header > div, footer { padding: 0 1rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .card { padding: .65rem .7rem; } .card .value { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  table.fold thead { display: none; }
  table.fold, table.fold tbody, table.fold caption { display: block; }
  table.fold tr { display: grid; grid-template-columns: 1fr auto; gap: .1rem .75rem; padding: .55rem 0; border-bottom: 1px solid var(--line); }
  table.fold td { border: 0; padding: 0; }
  table.fold td.name, table.fold td.wide { grid-column: 1 / -1; }
  table.fold td[data-label]::before { content: attr(data-label) ": "; color: var(--quiet); font-size: .85rem; }
  table.fold td:empty { display: none; }
  table.dense tr { grid-template-columns: 1fr 1fr; gap: .5rem 1rem; }
  table.dense td { padding: 0; }
  table.dense td[data-label]::before { display: block; content: attr(data-label); }
  .short { display: inline; } .long { display: none; }
  table.confusion { width: 100%; table-layout: fixed; }
  .confusion td { min-width: 0; } .confusion td, .confusion th { font-size: .8rem; padding: .2rem .1rem; }
  .confusion thead th:first-child { width: 29%; } .confusion tbody th { white-space: normal; padding-right: .4rem; }
  .photos { grid-template-columns: 1fr 1fr; } .photos.beside { grid-template-columns: 1fr; }
}
@media print {
  @page { margin: 14mm; }
  html, body { font-size: 9.5pt; line-height: 1.4; } nav { display: none; }
  main, header > div, footer { max-width: none; padding: 0; }
  header { background: none; padding-top: 0; }
  h2 { margin-top: 1.5rem; } h2, h3, section > p, thead, caption { break-after: avoid; }
  tr, .card, .caveats, table, p { break-inside: avoid; }
  dl { gap: .15rem 1rem; }
  .cards { grid-template-columns: repeat(3, 1fr); }
  .pair { grid-template-columns: 1fr 1fr; }
  .photos { grid-template-columns: repeat(5, 1fr); } .photos.beside { grid-template-columns: repeat(3, 1fr); }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  a { color: inherit; text-decoration: none; }
}
"""
