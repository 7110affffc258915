"""Panels of the figures: one font, colours that colour-blind readers tell apart, pictures with their legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.results.visualize import OPACITY, label_colours
from t2d_runtime.storage.whole_file import whole_file

OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
"""Okabe and Ito, "Color Universal Design", 2008."""

STYLE = {"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9}
DPI = 100
PANEL = 2.1
"""Inches of a panel's side."""

COLUMNS = 5


def panels(count: int, aspect: float, columns: int = COLUMNS, legend_rows: int = 0) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels for pictures of this height / width, without ticks."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = columns * PANEL, rows * (PANEL * aspect + 0.42) + 0.22 * legend_rows
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for panel in axes:
        panel.set_axis_off()
    return figure, axes[:count]


def show(axes: Axes, picture: NDArray[Any], title: str, **options: Any) -> None:
    """A picture with its title."""
    with rc_context(STYLE):  # type: ignore[arg-type]
        axes.imshow(picture, **options)
        axes.set_title(title, wrap=True)


def show_heat(axes: Axes, image: NDArray[np.uint8], heat: NDArray[np.float32], title: str) -> None:
    """A map (h,w) of patches over the image in pale grey, scaled to its own greatest value."""
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(255 - (255 - image.mean(axis=2)) / 2, cmap="gray", extent=extent, vmin=0, vmax=255)
    show(axes, heat, title, cmap="viridis_r", alpha=_opacity(heat), extent=extent, interpolation="nearest", vmin=0)


def _opacity(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Patches that nothing looks at leave the image to be seen."""
    opacity: NDArray[np.float32] = np.sqrt(heat / heat.max()) * np.float32(0.9)
    return opacity


def painted(result: Segmentation) -> NDArray[np.uint8]:
    """The image under the colours of its labels; background is left as it is."""
    colours = label_colours(len(result.class_names), background=result.settings.background)
    mixed = (1 - OPACITY) * result.image + OPACITY * colours[result.label_map]
    if result.settings.background:
        unnamed = result.label_map == 0
        mixed[unnamed] = result.image[unnamed]
    return mixed.astype(np.uint8)


def add_legend(figure: Figure, results: Sequence[Segmentation], columns: int) -> None:
    """Names of the classes that occur in a result, below the panels; background is what keeps its own colours."""
    colours: dict[str, NDArray[np.uint8]] = {}
    for result in results:
        background = result.settings.background
        palette = label_colours(len(result.class_names), background=background)
        present = np.unique(result.label_map)
        colours |= {result.class_names[i]: palette[i] for i in present if not (background and i == 0)}
    handles = [Patch(color=f"#{colour.tobytes().hex()}", label=name) for name, colour in colours.items()]
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all. Raises OutputError."""
    with whole_file(path) as file, rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(file, format="png", dpi=DPI)
    return path
