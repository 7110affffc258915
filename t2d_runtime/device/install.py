"""Install commands for the parts of this distribution, as messages name them."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that adds an extra of this distribution, which is on no package index."""
    return f"in a checkout of t2d-runtime: pip install '.[{extra}]'"
