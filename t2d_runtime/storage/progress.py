"""Progress bars of downloads: the commands show them, the library logs."""

from __future__ import annotations

_shown = False


def show_bars() -> None:
    """Let this process show the bars where standard error is a terminal. The commands call it."""
    global _shown
    _shown = True


def bars_disabled() -> bool | None:
    """The value of tqdm's `disable`: None, which asks for a terminal, in a command; True in any other program."""
    return None if _shown else True
