"""Install commands for the parts of this distribution, as messages name them."""

from __future__ import annotations

HOW_TO_COMPILE = "where there is a C compiler, in a checkout of t2d-runtime: pip install --force-reinstall --no-deps ."
"""What adds PAMR's compiled loops to an installation without them."""


def how_to_install(extra: str) -> str:
    """The command that adds an extra of this distribution, which is on no package index."""
    return f"in a checkout of t2d-runtime: pip install '.[{extra}]'"
