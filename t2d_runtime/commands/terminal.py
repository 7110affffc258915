"""Writing to the terminal, in any encoding, or without a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from t2d_runtime.errors import OutputError

_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the order of the text after them on the line."""

_NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Kinds of characters that move the cursor, end the line or are not text: control signs, surrogates, separators."""


def say(text: str) -> None:
    """Print a line to standard output; characters that the terminal cannot show are escaped. Raises OutputError.

    Lets BrokenPipeError pass: the reader of the output has closed it.
    """
    with _told():
        print(shown(text))


def say_json(content: Mapping[str, Any]) -> None:
    """Print a JSON object to standard output, in ASCII. Raises as `say`, and ValueError for a number without end."""
    for line in json.dumps(content, indent=2, allow_nan=False).splitlines():
        say(line)


def complain(text: str) -> None:
    """Print a line to standard error. Where that fails, there is nowhere left to report it."""
    with contextlib.suppress(OSError):
        print(shown(" ".join(text.split())), file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """A text with the characters escaped that would disturb a terminal. File names may hold any of them."""
    if text.isprintable():
        return text
    return "".join(_escaped(sign) if _disturbs(sign) else sign for sign in text)


def prepare_streams() -> None:
    """Make standard input, output and error usable, even where the program was started without them.

    A closed stream is replaced by one that reads and writes nothing. Otherwise the next opened file would get its
    number, and a library's prints would go into a result. Characters that the encoding lacks are escaped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write the buffered standard output. Raises as `say`, and then drops the rest."""
    with _told():
        sys.stdout.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def discard_output() -> None:
    """Discard all further standard output."""
    with contextlib.suppress(OSError, ValueError):  # no real file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _disturbs(sign: str) -> bool:
    return unicodedata.category(sign) in _NOT_SHOWN or sign in _BIDIRECTIONAL


def _escaped(sign: str) -> str:
    """A character as a Python escape. A surrogate stands for a byte of a name in another encoding."""
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode("ascii")
