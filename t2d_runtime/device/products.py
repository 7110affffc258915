"""Matrix products without false warnings."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating[Any])


def matmul(left: NDArray[Number], right: NDArray[Number]) -> NDArray[Number]:
    """`numpy.matmul` without the false warnings of its library.

    On some ARM processors the library behind NumPy (OpenBLAS's SVE kernels, Apple's Accelerate) sets the processor's
    flags for a division by zero, an overflow or an invalid number in products that are right, and NumPy turns the flags
    into a RuntimeWarning: https://github.com/numpy/numpy/issues/28687. A true overflow still shows: as infinity.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        product: NDArray[Number] = np.matmul(left, right)
    return product
