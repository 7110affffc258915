"""What the figures show; how is in `drawing`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.figures.head_choice import attention_maps, choose_heads
from benchmarks.figures.panels import COLUMNS, OKABE_ITO, STYLE, add_legend, painted, panels, show, show_heat
from benchmarks.figures.parameters import PUBLISHED, PUBLISHED_MIOU, bundle_parameters, published_parameters
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings


def attention(window: ImageEncoding) -> Figure:
    """Where the CLS token of the last block looks, head by head and on average (Fig. 8 and 9)."""
    logits = window.cls_attention[0]
    maps = {"average of the logits": attention_maps(logits.mean(axis=0))}
    maps |= {f"head {head}": one for head, one in enumerate(attention_maps(logits))}
    figure, axes = panels(len(maps) + 1, _aspect(window))
    show(axes[0], window.resized, "image")
    for panel, (name, heat) in zip(axes[1:], maps.items(), strict=True):
        show_heat(panel, window.resized, heat, name)
    return figure


def heads(window: ImageEncoding, texts: ClassEmbeddings) -> Figure:
    """The head that each text chooses, and where it looks (Fig. 7)."""
    choice = choose_heads(window, texts.vectors)
    figure, axes = panels(len(texts.names) + 1, _aspect(window))
    show(axes[0], window.resized, "image")
    for panel, name, cosines, head in zip(axes[1:], texts.names, choice.cosines, choice.chosen, strict=True):
        show_heat(panel, window.resized, choice.maps[head], f"{name}\nhead {head}, cosine {cosines[head]:.2f}")
    return figure


def cleaning(segmenter: Segmenter, encoding: ImageEncoding, classes: ClassEmbeddings) -> Figure:
    """Labels with background, cleaning off and on, and the pixels that it changes (Fig. 10)."""
    off, on = (segmenter.segment(encoding, classes, background=True, cleaning=on) for on in (False, True))
    figure, axes = panels(4, _aspect(encoding), columns=4, legend_rows=_legend_rows(classes))
    show(axes[0], encoding.image, "image")
    show(axes[1], painted(off), "cleaning off")
    show(axes[2], painted(on), "cleaning on")
    changed = np.where(off.label_map != on.label_map, 0, encoding.image.mean(axis=2) / 2 + 127)
    show(axes[3], changed, f"labels changed: {(changed == 0).mean():.1%}", cmap="gray", vmin=0, vmax=255)
    add_legend(figure, [off, on], COLUMNS)
    return figure


def overlays(segmenter: Segmenter, encoding: ImageEncoding, classes: ClassEmbeddings) -> Figure:
    """Labels with and without background and PAMR (Fig. 11)."""
    ways: dict[str, dict[str, Any]] = {
        "every pixel a class": {},
        "refined by PAMR": {"refine": True},
        "with background": {"background": True},
        "with background, PAMR": {"background": True, "refine": True},
    }
    figure, axes = panels(len(ways) + 1, _aspect(encoding), legend_rows=_legend_rows(classes))
    show(axes[0], encoding.image, "image")
    results: list[Segmentation] = []
    for panel, (name, options) in zip(axes[1:], ways.items(), strict=True):
        results.append(segmenter.segment(encoding, classes, **options))
        show(panel, painted(results[-1]), name)
    add_legend(figure, results, COLUMNS)
    return figure


def parameters(segmenter: Segmenter) -> Figure:
    """Parameters of the bundle beside those of the published models (Fig. 5).

    The paper's other methods are left out: it draws them as points, without figures that could be quoted.
    """
    rows = {f"this bundle, {segmenter.manifest.model.backbone}": bundle_parameters(segmenter.bundle)}
    for name in PUBLISHED:
        scores = PUBLISHED_MIOU[name]
        rows[f"{name}, mIoU {sum(scores) / len(scores):.1f}"] = published_parameters(name)
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for part, colour in zip(("image_encoder", "text_encoder"), OKABE_ITO, strict=False):
            millions = np.array([getattr(found, part) / 1e6 for found in rows.values()])
            axes.barh(list(rows), millions, left=left, color=colour, label=part.replace("_", " "))
            left += millions
        for row, total in enumerate(left):
            axes.text(total, row, f"  {total:.1f}", va="center")
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel="parameters, millions", title="mIoU: the paper's, mean of five benchmarks without background")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right")
    return figure


def _aspect(encoding: ImageEncoding) -> float:
    height, width, _ = encoding.resized.shape
    return float(height / width)


def _legend_rows(classes: ClassEmbeddings) -> int:
    return -(-len(classes.names) // COLUMNS)
