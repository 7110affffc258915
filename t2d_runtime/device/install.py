"""Install commands for the parts of this distribution, as messages name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from t2d_runtime.errors import MissingPackageError, T2DError

OWN_PACKAGES = ("t2d_runtime", "t2d_export", "training", "benchmarks")

HOW_TO_COMPILE = "where there is a C compiler, in a checkout of t2d-runtime: pip install --force-reinstall --no-deps ."
"""Advice that adds PAMR's compiled loops to an installation without them."""


def how_to_install(extra: str) -> str:
    """The command that adds an extra of this distribution, which is on no package index."""
    return f"in a checkout of t2d-runtime: pip install '.[{extra}]'"


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Context of a command that needs an extra. The error says which of its packages cannot be imported.

    Raises MissingPackageError, which names the package and the command that installs the extra. A failed import within
    this distribution itself is a fault of the program and is left as it is.
    """
    with _needs(how_to_install(extra)):
        yield


@contextmanager
def needs_package(package: str) -> Iterator[None]:
    """Context of a call that needs a package which no extra of this distribution brings. Raises as `needs_extra`."""
    with _needs(f"pip install {package}"):
        yield


@contextmanager
def _needs(command: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if isinstance(error, T2DError) or name in OWN_PACKAGES:
            raise
        missing = f"{name} is not installed" if isinstance(error, ModuleNotFoundError) and name else f"{error}"
        raise MissingPackageError(f"{missing}; {command}") from error
