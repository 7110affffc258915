"""The ablation tables of the paper as settings. Each row changes some of the published ones. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Row = Mapping[str, Any]
"""Fields of `TrainConfig` that a row changes."""

TABLES: Final[Mapping[str, Mapping[str, Row]]] = {
    "heads": {
        "max over heads (published)": {},
        "softmax over heads": {"selection": "weighted_avg"},
        "one head sampled": {"selection": "sampled"},
        "average attention": {"selection": "average"},
        "CLS token": {"selection": "cls"},
        "sum over heads": {"selection": "sum"},
        "mean over heads": {"selection": "mean"},
    },
    "projections": {
        "text, two layers (published)": {},
        "text, affine": {"projection": "affine"},
        "vision, two layers": {"projection": "visual"},
        "vision, affine": {"projection": "visual_affine"},
        "both sides": {"projection": "both"},
        "text, and CLIP's last block": {"projection": "last_block"},
    },
    "texts": {
        "end token (published)": {},
        "mean of the words": {"text_input": "average"},
        "words, max over heads, sum": {"text_input": "tokens", "selection": "max-row_sum"},
        "words, nucleus": {"text_input": "tokens", "selection": "nucleus"},
        "words, mean": {"text_input": "tokens", "selection": "mean"},
        "words, sum": {"text_input": "tokens", "selection": "sum"},
    },
    "losses": {
        "InfoNCE (published)": {},
        "triplet, hardest negative": {"loss": "triplet"},
    },
}
"""Table -> row -> changes. `heads` and `texts` are the paper's alignment strategies, `projections` its variants."""
