"""Choice of PAMR's inner loops: the compiled ones where they are installed, else NumPy's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from t2d_runtime.device.install import HOW_TO_COMPILE
from t2d_runtime.masks.pamr.compiled_kernels import VERSIONS, CompiledKernels, library
from t2d_runtime.masks.pamr.kernels import Grid, Kernels
from t2d_runtime.masks.pamr.numpy_kernels import NumpyKernels

logger = logging.getLogger(__name__)


@cache
def fastest_kernels() -> Callable[[Grid], Kernels]:
    """The compiled loops where this package was installed with them, else NumPy's."""
    try:
        library()
    except OSError as error:
        logger.info("PAMR with NumPy (%s); compiled loops are ten times as fast: %s", error, HOW_TO_COMPILE)
        return NumpyKernels
    return CompiledKernels


def loops_here() -> str:
    """Description of the loops that PAMR uses on this machine, and how to get the compiled ones."""
    if fastest_kernels() is NumpyKernels:
        return f"{NumpyKernels.name}; for the compiled ones, {HOW_TO_COMPILE}"
    version = library().pamr_version()
    return f"{CompiledKernels.name}, with {VERSIONS[version]}" if version else CompiledKernels.name
