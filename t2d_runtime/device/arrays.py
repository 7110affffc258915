"""Arrays that lie in a GPU's memory."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DeviceArray(Protocol):
    """A float32 array in C order in the memory of GPU 0, complete, whose memory lives as long as this object."""

    @property
    def address(self) -> int:
        """Address of its first element."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def to_host(self) -> NDArray[np.float32]:
        """A copy in the host's memory. Raises BackendError where the device fails."""
