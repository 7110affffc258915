"""Labels as rows of a table: records, CSV text, and a pandas DataFrame."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from t2d_runtime.device.install import needs_package

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("label", "name", "pixels", "share", "left", "top", "right", "bottom", "mean_score")
"""Columns of the table. Left, top, right and bottom are the box in pixels; right and bottom are exclusive."""

Record = dict[str, Any]
"""Column -> value: a string, a number, or None where there is none."""


def records_of(labels: Sequence[Mapping[str, Any]]) -> list[Record]:
    """A flat record for each label of a `Segmentation.summary`, with COLUMNS as keys."""
    flat = ({**label, **dict(zip(COLUMNS[4:8], label["box"] or (None,) * 4, strict=True))} for label in labels)
    return [{column: label.get(column) for column in COLUMNS} for label in flat]


def csv_of(records: Sequence[Record], columns: Sequence[str] = COLUMNS, *, header: bool = True) -> str:
    """Records as CSV text (RFC 4180 with line feeds). None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def data_frame(records: Sequence[Record]) -> DataFrame:
    """Records as a pandas DataFrame. Raises MissingPackageError where pandas is missing."""
    with needs_package("pandas"):
        import pandas as pd
    return pd.DataFrame(records, columns=list(COLUMNS)).astype({"mean_score": float})  # NaN also where all are None
