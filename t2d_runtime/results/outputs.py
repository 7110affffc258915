"""Writing the results of a run. Each file is written whole or not at all, and replaces no file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path, PurePath
from types import TracebackType

from t2d_runtime.errors import OptionError, OutputError
from t2d_runtime.results.formats import FORMATS, FileFormat, ImageResult, OutputOptions, RunFormat, RunWriter
from t2d_runtime.storage.own_files import own_file
from t2d_runtime.storage.whole_file import cannot_write


def formats_of(text: str) -> tuple[FileFormat | RunFormat, ...]:
    """Formats by their names, separated by commas. Spaces and capital letters are accepted. Raises OptionError."""
    names = [name.strip().lower() for name in text.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        got = f"unknown output format {', '.join(map(repr, unknown))}" if unknown else "no output format"
        raise OptionError(f"{got}, expected some of {', '.join(FORMATS)}, separated by commas")
    return tuple(FORMATS[name] for name in names)


class ResultWriter:
    """Writes results in some formats below a folder; one thread at a time.

    As a context manager it finishes the files of the whole run at the end; after an error it removes them.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[FileFormat | RunFormat],
        options: OutputOptions | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        for found in formats:
            found.check()
        self._folder = folder
        self._formats = formats
        self._options = options or OutputOptions()
        self._overwrite = overwrite
        self._open_files = ExitStack()
        self._run_files: dict[str, _RunFile] = {}

    def paths_of(self, name: PurePath) -> list[Path]:
        """Files written for one image. `name` is its path below the output folder, without a suffix."""
        each = (found for found in self._formats if isinstance(found, FileFormat))
        return [self._folder / name.parent / (name.name + found.suffix) for found in each]

    @property
    def paths_of_run(self) -> list[Path]:
        """Files that are written once for all images."""
        return [self._folder / found.file_name for found in self._formats if isinstance(found, RunFormat)]

    def write(self, item: ImageResult, name: PurePath) -> list[Path]:
        """Write one result; returns the files written for it alone. `name` as `paths_of`.

        Raises OutputError, also where another program's file has the name and `overwrite` is False.
        """
        written = self.paths_of(name)
        item = replace(item, folder=(self._folder / name).parent)
        each = (found for found in self._formats if isinstance(found, FileFormat))
        for found, path in zip(each, written, strict=True):
            with own_file(path, overwrite=self._overwrite) as file:
                found.write(file, item, self._options)
        for whole in self._formats:
            if isinstance(whole, RunFormat):
                self._add_to_run(whole, item)
        return written

    def _add_to_run(self, found: RunFormat, item: ImageResult) -> None:
        """Add a result to a file of the whole run, which the first result opens."""
        if found.name not in self._run_files:
            path = self._folder / found.file_name
            file = self._open_files.enter_context(own_file(path, overwrite=self._overwrite))
            self._run_files[found.name] = _RunFile(path, found.begin(file, self._options))
            # The stack closes in reverse order, so the format finishes before the file is closed.
            self._open_files.push(self._run_files[found.name].finish)
        self._run_files[found.name].add(item)

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.__exit__(kind, error, trace)


class _RunFile:
    """A file of the whole run that is being written. After a failure it is not finished."""

    def __init__(self, path: Path, writer: RunWriter) -> None:
        self._path = path
        self._writer = writer
        self._failed: OutputError | None = None

    def add(self, item: ImageResult) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            self._writer.add(item)
        except OSError as error:
            self._failed = cannot_write(self._path, error)
            raise self._failed from error

    def finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with closing(self._writer):
            if self._failed is not None and error is None:
                raise self._failed
            if error is None:
                self._writer.finish()
