"""The bundle: a folder with a manifest, graphs, a tokenizer and self-test vectors; its files and checksums.

A bundle needs no network and no file outside its folder.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path, PurePosixPath

from t2d_runtime.bundle.manifest import FileRecord, Manifest
from t2d_runtime.errors import BundleError, BundleNotFoundError, OutputError
from t2d_runtime.storage.cache import cache_folder
from t2d_runtime.storage.in_use import hold
from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.reading import reason_against
from t2d_runtime.storage.safe_names import unsafe
from t2d_runtime.storage.whole_file import cannot_write
from t2d_runtime.storage.whole_folder import check_replaceable

MANIFEST = "manifest.json"
IMAGE_ENCODER = "image_encoder.onnx"
TEXT_ENCODER = "text_encoder.onnx"
SEGMENTER = "segmenter.onnx"
"""The fused graph, where the bundle has one; it shares the image encoder's external weights."""
TOKENIZER = "tokenizer.json"
SELFTEST = "selftest.npz"
PULLED = "pulled.txt"
"""Marks a bundle from a hub, of which some files may have stayed there, and holds its name: hf://ORG/BUNDLE@COMMIT."""
PRECISIONS_FOLDER = "precisions"
"""Holds a folder of the graphs for every precision besides fp32."""

ENCODERS = (IMAGE_ENCODER, TEXT_ENCODER)
REQUIRED = (*ENCODERS, TOKENIZER, SELFTEST)

EXTERNAL_DATA_SUFFIX = ".data"
"""ONNX keeps large weights in a file of this suffix beside the graph."""

FOR_WORDS = (TEXT_ENCODER, TEXT_ENCODER + EXTERNAL_DATA_SUFFIX, TOKENIZER)
"""Files of the text encoder, in any precision. A device with a vocabulary file may leave them off."""


def graph_folder(precision: str) -> str:
    """Folder of a precision's graphs in the bundle, with a slash at its end; empty for fp32."""
    return "" if precision == "fp32" else f"{PRECISIONS_FOLDER}/{precision}/"


def _reason_against(folder: Path) -> str | None:
    """The reason why a path leads to no folder with a manifest; None where it leads to one."""
    if is_file(folder / MANIFEST):
        return None
    try:
        kind = folder.stat().st_mode
    except FileNotFoundError:
        return "there is no such folder"
    except OSError as error:
        return reason_against(error)
    except ValueError as error:  # NUL
        return f"it cannot be a path ({error})"
    return "it has none that can be read" if stat.S_ISDIR(kind) else "it is a file"


def check_new_bundle(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless a bundle may be made at `output`: a new or empty folder, or a bundle with `overwrite`.

    Called before any work.
    """
    try:
        filled = any(output.iterdir())
    except FileNotFoundError:
        if output.is_symlink():
            raise OutputError(f"{output} is a link to a folder that does not exist; choose another --output") from None
        return
    except OSError as error:
        raise cannot_write(output, error) from error
    check_replaceable(output)
    if filled and not (output / MANIFEST).is_file():
        raise OutputError(f"{output} exists and is not a bundle; choose another --output")
    if filled and not overwrite:
        raise OutputError(f"{output} is a bundle already; choose another --output, or add --overwrite")


def weights_of(graph: str) -> str:
    """Name of the file that holds a graph's weights, where it has one; the fused graph shares the image encoder's."""
    folder, slash, name = graph.rpartition("/")
    return f"{folder}{slash}{IMAGE_ENCODER if name == SEGMENTER else name}{EXTERNAL_DATA_SUFFIX}"


class Bundle:
    """An opened bundle. Files are checked against the manifest before they are first used."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._verified: set[str] = set()

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> Bundle:
        """Read the manifest and check that every file it names exists with its size; FOR_WORDS may be left off.

        Of a bundle from a hub any file may have stayed there.

        The folder's absolute path is kept, since the process may change its working directory. `file` checks contents,
        so that opening does not read weights that are never used.
        Raises BundleNotFoundError (no such folder, a missing file) and BundleError (a bad manifest, a wrong size).
        """
        if not isinstance(folder, str | PathLike) or not isinstance(fspath(folder), str) or not fspath(folder):
            raise BundleNotFoundError(f"expected the path of a bundle's folder, as text, got {folder!r}")
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            str(folder.absolute()).encode()
        except UnicodeEncodeError as error:  # a name in another encoding: engines take paths as UTF-8
            raise BundleError(
                f"{folder.absolute()}: the bundle's path is not UTF-8, which the engines need; rename the folder, or "
                "open it through a link with a UTF-8 path"
            ) from error
        if (reason := _reason_against(folder)) is not None:
            raise BundleNotFoundError(
                f"{folder} is not a bundle: expected a folder with {MANIFEST}, but {reason}; make one with "
                "'t2d-export bundle'"
            )
        bundle = cls(folder.absolute(), Manifest.read(path))
        absent = [name for name in REQUIRED if name not in bundle.manifest.files]
        if absent:
            raise BundleError(f"{path} names no {', '.join(absent)}; export the bundle again")
        for name in bundle.manifest.files:
            if (fault := unsafe(name)) is not None:
                raise BundleError(
                    f"{path} names {name!r:.100}, which {fault}; expected files inside the bundle's folder: "
                    "export it again"
                )
        if bundle._is_in_cache:
            hold(bundle.folder / PULLED, bundle)
        left_off, pulled = bundle.left_off, bundle.pulled_from is not None
        for name, record in bundle.manifest.files.items():
            if name not in left_off and not (pulled and not bundle._holds(name)):
                bundle._check_size(name, record)
        return bundle

    @property
    def left_off(self) -> tuple[str, ...]:
        """Missing files of the text encoder. Without them only a vocabulary file can name the classes."""
        names = (name for name in self.manifest.files if PurePosixPath(name).name in FOR_WORDS)
        return tuple(name for name in names if not self._holds(name))

    @property
    def pulled_from(self) -> str | None:
        """The name on a hub that the bundle was pulled from; None for others."""
        try:
            return (self.folder / PULLED).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def _holds(self, name: str) -> bool:
        """False where a file is not there. True also where that cannot be found out: `_check_size` tells why."""
        try:
            (self.folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    @property
    def vocabulary_digest(self) -> str:
        """Identity of the text encoder. A vocabulary works with every bundle of the same digest."""
        return self._digest(FOR_WORDS)

    @property
    def model_digest(self) -> str:
        """Identity of the image encoder. An encoded image works with every bundle of the same digest."""
        return self._digest((IMAGE_ENCODER, IMAGE_ENCODER + EXTERNAL_DATA_SUFFIX))

    def _digest(self, names: Sequence[str]) -> str:
        """Digest of the checksums of those files that the bundle has."""
        files = self.manifest.files
        return hashlib.sha256("".join(files[name].sha256 for name in names if name in files).encode()).hexdigest()

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """Path of a verified ONNX graph (one of ENCODERS, or SEGMENTER) in a precision.

        Its external weights, where it has some, are verified too.
        Raises BundleError where the bundle has no such precision, and as `file`.
        """
        *weights, key = self._graph_files(name, precision)
        for file in weights:
            self.file(file)
        return self.file(key)

    @contextmanager
    def graph_in_use(self, name: str, precision: str = "fp32", *, parsed: bool = False) -> Iterator[Path]:
        """Gives the path of `graph` and computes the checksums while it is in use: half of the time on two cores.

        `parsed`: an engine reads the graph itself, which is then checked before. Its external weights, which are
        numbers alone, are still checked meanwhile; where a damaged graph would be parsed, engines print messages of
        their own.
        Raises as `graph` at the end, also where the block failed. Results made from a bad file must not be used.
        """
        *weights, key = self._graph_files(name, precision)
        if parsed:
            self.file(key)
        if parsed and not weights:
            yield self.folder / key
            return
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self.graph, name, precision)
            try:
                yield self.folder / key
            finally:
                checked.result()

    def graph_files(self, name: str, precision: str = "fp32") -> tuple[Path, ...]:
        """Paths of all verified files that make up a graph: its external weights, if any, and the graph last.

        Raises as `graph`.
        """
        return tuple(self.file(file) for file in self._graph_files(name, precision))

    def graph_digests(self, precision: str, graphs: Sequence[str] = ENCODERS) -> tuple[str, ...]:
        """The manifest's sha256 of all files that make up some graphs in a precision."""
        found = [self._graph_files(name, precision) for name in graphs]
        names = [files[-1] for files in found] + [name for files in found for name in files[:-1]]
        return tuple(self.manifest.files[name].sha256 for name in names)

    def graph_precisions(self, name: str) -> list[str]:
        """Precisions in which the bundle holds a graph file."""
        here = [key for key in self.manifest.files if self._holds(key)]
        found = ["fp32"] if name in here else []
        paths = (PurePosixPath(key) for key in here)
        return found + sorted(p.parts[1] for p in paths if p.parts[0] == PRECISIONS_FOLDER and p.name == name)

    def _graph_files(self, name: str, precision: str) -> list[str]:
        """The files that make up a graph: its external weights, where it has some, and the graph last."""
        key = graph_folder(precision) + name
        if key not in self.manifest.files:
            wanted = "fp32" if precision == "fp32" else f"fp32,{precision}"
            fused = " --fused" if name == SEGMENTER else ""
            raise BundleError(
                f"{self.folder} has no {name} in precision {precision!r}, only in "
                f"{self.graph_precisions(name)}; export it with --precision {wanted}{fused}"
            )
        weights = weights_of(key)
        return [weights, key] if weights in self.manifest.files else [key]

    def file(self, name: str) -> Path:
        """Path of a file of the bundle, its sha256 checked at the first call.

        Raises BundleNotFoundError where the manifest has no such file or it is gone, BundleError where its
        bytes are not the exported ones.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleNotFoundError(f"{self.folder}: the manifest names no {name}; export the bundle again")
        path = self._check_size(name, record)
        if name not in self._verified:
            digest = sha256_of(path)
            if digest != record.sha256:
                raise BundleError(
                    f"{path} has sha256 {digest[:12]}…, the manifest says {record.sha256[:12]}…: the file "
                    f"was changed or damaged; {self._how_to_repair()}"
                )
            self._verified.add(name)
        return path

    @property
    def _is_in_cache(self) -> bool:
        cache = cache_folder()
        return cache is not None and self.folder.is_relative_to(cache.absolute())

    def _how_to_repair(self) -> str:
        source = self.pulled_from
        if source is None:
            return "copy or export the bundle again"
        if self._is_in_cache:
            return f"get it again with 't2d pull {source}'"
        again = f"t2d pull {source} --output {self.folder} --overwrite"
        return f"get it again with '{again}', with the --precision of before"

    def _check_size(self, name: str, record: FileRecord) -> Path:
        path = self.folder / name
        try:
            facts = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            facts = None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {reason_against(error)}") from error
        if facts is None or not stat.S_ISREG(facts.st_mode):
            source = self.pulled_from
            if source is not None:
                raise BundleNotFoundError(
                    f"{path} stayed on the hub; get it with 't2d pull {source}', with the --precision that "
                    "is wanted and not --without-words"
                )
            words = ", or segment with a vocabulary, which 't2d classes' makes" if path.name in FOR_WORDS else ""
            raise BundleNotFoundError(f"{path} is missing from the bundle; copy or export the bundle again{words}")
        if facts.st_size != record.size_bytes:
            raise BundleError(
                f"{path} has {facts.st_size} bytes, the manifest says {record.size_bytes}: the file was changed or "
                f"cut short; {self._how_to_repair()}"
            )
        return path


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file. Raises BundleError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {reason_against(error)}") from error


def record_of(path: Path) -> FileRecord:
    """The manifest's record of a file."""
    return FileRecord(sha256=sha256_of(path), size_bytes=path.stat().st_size)
