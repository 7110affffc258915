"""The page in HTML: one file without any other, light and dark, for screens of every width.

Bars are elements of the page rather than drawn by a plotting library, so that they take the reader's colours and
wrap with the window, and the file stays small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.report.blocks import Bar, Bars, Block, Lines, Picture, Section, Stacks, Table, Text
from benchmarks.report.curves import to_svg
from benchmarks.report.style import CSS, PALETTE

PICTURE_WIDTH = 1000
"""Pixels: the page's own width."""

PICTURE_QUALITY = 80


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The text of the file."""
    links = "".join(f'<a href="#{_anchor(section)}">{escape(section.title)}</a>' for section in sections)
    body = "".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f"<h1>{escape(title)}</h1><nav>{links}</nav>\n{body}</body></html>\n"
    )


def _section(section: Section) -> str:
    blocks = "".join(_block(block) for block in section.blocks)
    return f'<section id="{_anchor(section)}"><h2>{escape(section.title)}</h2>{blocks}</section>\n'


def _anchor(section: Section) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in section.title.lower())


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _table(block)
        case Bars(caption, bars):
            longest = max((max(bar.value, bar.mark or 0.0) for bar in bars), default=0.0) or 1.0
            return _figure(caption, "".join(_bar(bar, longest) for bar in bars))
        case Stacks():
            return _stacks(block)
        case Lines(caption, unit, _, series):
            return _figure(f"{caption}, {unit}", _legend([name for name, _ in series]) + to_svg(block))
        case Picture(path, caption):
            return _figure(caption, f'<img src="{_data_url(path)}" alt="{escape(caption)}">')


def _figure(caption: str, content: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{content}</figure>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.headers)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _bar(bar: Bar, longest: float) -> str:
    mark = "" if bar.mark is None else f'<i class="mark" style="left:{_percent(bar.mark, longest)}"></i>'
    return (
        f'<div class="bar"><span>{escape(bar.name)}</span><div class="track">'
        f'<i class="c0" style="width:{_percent(bar.value, longest)}"></i>{mark}</div><b>{escape(bar.text)}</b></div>'
    )


def _stacks(block: Stacks) -> str:
    names = list(dict.fromkeys(name for stack in block.stacks for name, _ in stack.parts))
    longest = max(sum(value for _, value in stack.parts) for stack in block.stacks) or 1.0
    rows = ""
    for stack in block.stacks:
        parts = "".join(
            f'<i class="c{names.index(name) % len(PALETTE)}" style="width:{_percent(value, longest)}" '
            f'title="{escape(name)}: {value:.2f} {block.unit}"></i>'
            for name, value in stack.parts
        )
        total = sum(value for _, value in stack.parts)
        rows += (
            f'<div class="bar"><span>{escape(stack.name)}</span><div class="track">{parts}</div>'
            f"<b>{total:.0f} {block.unit}</b></div>"
        )
    return _figure(block.caption, _legend(names) + rows)


def _legend(names: Sequence[str]) -> str:
    chips = (f'<span><i class="c{i % len(PALETTE)}"></i>{escape(name)}</span>' for i, name in enumerate(names))
    return f'<div class="legend">{"".join(chips)}</div>'


def _percent(value: float, longest: float) -> str:
    return f"{100 * value / longest:.2f}%"


def _data_url(path: Path) -> str:
    """A picture, no wider than the page, inside the page."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=PICTURE_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
