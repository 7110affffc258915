"""The page from its templates: HTML in one file without any other, light and dark; Markdown with charts as tables.

Bars are elements of the page rather than drawn by a plotting library, so that they take the reader's colours and wrap
with the window, and the file stays small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.blocks import Bars, Lines, Section

TITLE = "t2d-runtime, measured"
TEMPLATES = Path(__file__).parent


def to_html(sections: Sequence[Section], title: str = TITLE) -> str:
    """The text of the HTML file."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = lambda value, longest: f"{100 * value / longest:.2f}%"
    return environment.get_template("page.html").render(title=title, sections=sections)


def to_markdown(sections: Sequence[Section], folder: Path, title: str = TITLE) -> str:
    """The text of a Markdown file in `folder`, from which pictures are linked."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=False, undefined=StrictUndefined)
    filters: dict[str, Callable[..., Any]] = {
        "cell": lambda text: text.replace("|", "\\|"),
        "link": lambda path: Path(os.path.relpath(path, folder)).as_posix(),
        "bar_rows": _bar_rows,
        "line_rows": _line_rows,
    }
    environment.filters |= filters
    return environment.get_template("page.md").render(title=title, sections=sections) + "\n"


def _bar_rows(block: Bars) -> list[list[str]]:
    """Name, the parts where there are several, text."""
    parts = block.names if len(block.names) > 1 else []
    return [[bar.name, *(f"{bar.parts.get(name, 0.0):.1f}" for name in parts), bar.text] for bar in block.bars]


def _line_rows(block: Lines) -> list[list[str]]:
    """Name, a time for each value."""
    return [[name, *("" if time is None else f"{time:.1f}" for time in times)] for name, times in block.series.items()]
