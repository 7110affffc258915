"""The parser that every command line of this project uses."""

from __future__ import annotations

import argparse
from typing import Never


class ArgumentParser(argparse.ArgumentParser):
    """A parser that answers wrong arguments with one line and exit status 2, as the commands answer bad input."""

    def error(self, message: str) -> Never:
        """Print the error and where the arguments are listed, without the usage, and end."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")
