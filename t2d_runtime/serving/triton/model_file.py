"""Run by Triton's Python backend, in whose Python t2d-runtime must be installed, with the extra `shapes`."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from t2d_runtime.serving.triton.model import SegmentationModel


class TritonPythonModel:
    """A picture and words to labels."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle."""
        self.model = SegmentationModel.open(pb_utils, args)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Segment."""
        return self.model.execute(requests)
