"""Colours and layout of the page. The palette is Okabe and Ito's, told apart by colour-blind readers."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#7f7f7f")

CSS = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5c636b; --page: #fff; --line: #d9dde2; --track: #eef0f3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6e9; --soft: #9aa2ab; --page: #16181b; --line: #33383e; --track: #24282d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1040px; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .85rem; }
a { color: inherit; }
p { color: var(--soft); max-width: 75ch; margin: .5rem 0; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.5rem; }
figcaption { font-size: .9rem; margin-bottom: .4rem; }
img, svg { max-width: 100%; height: auto; display: block; border-radius: 4px; }
svg { width: 720px; }
svg line { stroke: var(--line); }
svg text { fill: var(--soft); font-size: 11px; }
svg polyline { fill: none; stroke-width: 2; }
.bar { display: grid; grid-template-columns: 13rem minmax(6rem, 1fr) 24rem; gap: .75rem; align-items: center;
  font-size: .85rem; padding: .12rem 0; }
.bar b { font-weight: 400; font-variant-numeric: tabular-nums; }
.track { position: relative; display: flex; height: 1rem; background: var(--track); border-radius: 2px; }
.track i { height: 100%; }
.track .mark { position: absolute; top: -.15rem; height: 1.3rem; border-left: 2px solid var(--text); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin-bottom: .4rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; border-radius: 2px; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .83rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
@media (max-width: 700px) {
  .bar { grid-template-columns: 1fr; gap: .1rem; padding: .35rem 0; }
  svg text { font-size: 18px; }
}
""" + "".join(
    f".c{i} {{ background: {colour}; }} circle.k{i} {{ fill: {colour}; }} polyline.k{i} {{ stroke: {colour}; }}\n"
    for i, colour in enumerate(PALETTE)
)
