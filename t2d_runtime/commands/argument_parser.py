"""The parser that every command line of this project uses."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, Never


class ArgumentParser(argparse.ArgumentParser):
    """A parser that answers wrong arguments with one line and exit status 2, as the commands answer bad input."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as argparse does; unknown arguments of a command are that command's error, with its own --help."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown)}")
        return known, unknown

    def error(self, message: str) -> Never:
        """Print the error and where the arguments are listed, without the usage, and end."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")

    def _suggestion(self, unknown: Sequence[str]) -> str:
        for given in unknown:
            if given.startswith("--"):
                known = [option for option in self._option_string_actions if option.startswith("--")]
                for near in difflib.get_close_matches(given.partition("=")[0], known, 1, cutoff=0.75):
                    return f" (did you mean {near}?)"
        return ""
