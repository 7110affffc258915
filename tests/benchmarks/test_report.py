"""The README's table is that of the committed result files."""

from __future__ import annotations

import pytest

from benchmarks.report import BEGIN, END, README, table, with_table
from t2d_runtime.errors import DataError


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, table()) == text


def test_only_what_is_between_the_markers_changes() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb", ["new"]) == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(DataError, match="lacks the lines"):
        with_table("no markers", [])
