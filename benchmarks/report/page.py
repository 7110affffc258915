"""Renders the page from its templates: one HTML file, light and dark, or Markdown with charts as tables.

Bars are HTML elements, not drawn by a plotting library, so that they take the reader's colours and wrap with the
window, and the file stays small.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.blocks import Section

TITLE = "t2d-runtime, measured"
TEMPLATES = Path(__file__).parent


def to_html(sections: Sequence[Section], title: str = TITLE) -> str:
    """The text of the HTML file."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = lambda value, longest: f"{100 * value / longest:.2f}%"
    return environment.get_template("page.html").render(title=title, sections=sections)


def to_markdown(sections: Sequence[Section], folder: Path, title: str = TITLE) -> str:
    """The text of a Markdown file in `folder`, with links to the pictures."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=False, undefined=StrictUndefined)
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")
    environment.filters["link"] = lambda path: Path(os.path.relpath(path, folder)).as_posix()
    return environment.get_template("page.md").render(title=title, sections=sections) + "\n"
