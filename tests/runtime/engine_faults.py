"""Engines that compute wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine


def disturb(monkeypatch: pytest.MonkeyPatch, output: str, share: float) -> None:
    """Make every ONNX Runtime engine wrong in one output by a share of its size."""
    real = OnnxRuntimeEngine.run

    def run(self: OnnxRuntimeEngine, inputs: Any) -> Any:
        outputs = real(self, inputs)
        if output in outputs:
            noise = np.random.default_rng(0).normal(size=outputs[output].shape)
            outputs[output] = outputs[output] + (share * outputs[output].std() * noise).astype(np.float32)
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
