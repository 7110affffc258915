"""Checks for features that are not finite numbers, before they are written and where a loss reveals them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from training.features.batches import FeatureChoice
from training.features.feature_set import FeatureSet, IndexArray


def not_finite_row(arrays: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """Name and row of the first array (n, ...) with a NaN or an infinity; None where all are finite."""
    for name, array in arrays.items():
        if array.is_floating_point() and not array.isfinite().all():
            return name, int((~array.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    return None


def not_finite_feature(features: FeatureSet, choice: FeatureChoice, captions: IndexArray) -> str | None:
    """Description of the first feature of these captions (B,) int64, or their images, that is not finite; else None."""
    for caption in captions.tolist():
        shard = features.shards[features.caption_shard[caption]]
        image, row = int(features.image_row[caption]), int(features.caption_row[caption])
        if choice.token_array is None:
            text = shard.arrays[choice.text][row]
        else:
            start, stop = shard.arrays["token_offsets"][row : row + 2]
            text = shard.arrays[choice.text][start:stop]
        if not np.isfinite(shard.arrays[choice.visual][image]).all():
            owner = f"{choice.visual!r} of image {shard.arrays['image_ids'][image]}"
        elif not np.isfinite(text).all():
            owner = f"{choice.text!r} of caption {features.caption_ids[caption]}"
        else:
            continue
        return f"{owner} in {shard.path} is not finite; delete the folder and extract it again"
    return None
