"""The PyTorch baselines compute what the reference computes: a speed claim against another result means nothing."""

from __future__ import annotations

import torch

from benchmarks.contenders.baselines import RELEASED_CLASSES, plain_pamr, released_pamr


def test_both_forms_of_pamr_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8, generator=generator)
    planes = torch.rand(RELEASED_CLASSES + 2, 40, 50, generator=generator)
    torch.testing.assert_close(released_pamr(image, planes), plain_pamr(image, planes), atol=5e-6, rtol=0)
