"""Packages for a machine without internet, as a folder of wheels in pieces. Needs nothing but Python and pip.

Where there is internet:   python scripts/offline.py make WHEELS --python 3.12
On the machine itself:     python scripts/offline.py install WHEELS TARGET

Without requirements, `make` takes what this project needs to run bundles on an NVIDIA GPU. CUDA's libraries are left
out, since PyTorch's packages or the system bring them; name those that are missing, such as nvidia-cudnn-cu13.
`install` needs every piece of the folder, however many journeys brought them, and writes TARGET whole or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIST = "offline.json"
PIECE_MB = 44
"""Such a piece stays below 60 MB in base64 too, in which some channels carry files."""
PLATFORMS = [f"manylinux_2_{number}_x86_64" for number in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
"""pip compares platforms by name, so the older ones are named too."""

ALONE = ("open_clip_torch",)
"""Taken without what it needs, which comes with PyTorch. It makes the models that the benchmark `gpu` compares with."""

ONNXRUNTIMES = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"}
"""Packages that are one and the same module."""


class OfflineError(Exception):
    """What was expected, what was got, and what to do."""


def make(
    folder: Path,
    requirements: Sequence[str],
    alone: Sequence[str],
    *,
    python: str,
    platforms: Sequence[str],
    piece_mb: int,
) -> None:
    """Download wheels for another machine into a new folder, and cut large ones into pieces.

    `requirements` come with what they need, `alone` without.
    """
    if folder.exists():
        raise OfflineError(f"{folder} exists; name a new folder")
    if piece_mb < 1:
        raise OfflineError(f"--piece-mb is {piece_mb}, expected at least 1")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".offline-") as name:
        staging = Path(name) / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--dest", str(staging)]
        command += ["--python-version", python, "--implementation", "cp", "--disable-pip-version-check", "--quiet"]
        command += [part for platform in platforms for part in ("--platform", platform)]
        for asked in (requirements, ["--no-deps", *alone] if alone else []):
            if asked and subprocess.run([*command, *asked], check=False).returncode != 0:
                raise OfflineError("pip could not download the wheels, see its lines above")
        wheels = {wheel.name: _cut(wheel, piece_mb * 10**6) for wheel in sorted(staging.glob("*.whl"))}
        (staging / LIST).write_text(json.dumps({"python": python, "wheels": wheels}, indent=1) + "\n")
        staging.rename(folder)
    size = sum(wheel["size_bytes"] for wheel in wheels.values())
    print(f"{folder}: {len(wheels)} wheels for Python {python}, {size / 1e6:.0f} MB, {LIST} names their pieces")


def needs() -> list[str]:
    """The project's own requirements, and those of its extra `gpu`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["gpu"]]


def _cut(wheel: Path, limit: int) -> dict[str, Any]:
    """Facts of a wheel and of its pieces; a wheel above the limit is replaced by them."""
    record: dict[str, Any] = {"sha256": sha256(wheel), "size_bytes": wheel.stat().st_size, "pieces": {}}
    if record["size_bytes"] <= limit:
        record["pieces"][wheel.name] = record["sha256"]
        return record
    with wheel.open("rb") as content:
        for number, piece in enumerate(iter(lambda: content.read(limit), b"")):
            path = wheel.with_name(f"{wheel.name}.{number:03}")
            path.write_bytes(piece)
            record["pieces"][path.name] = hashlib.sha256(piece).hexdigest()
    wheel.unlink()
    return record


def install(folder: Path, target: Path) -> None:
    """Join the pieces, and install the wheels into a new folder of their own."""
    if target.exists():
        raise OfflineError(f"{target} exists; remove it, or name another folder")
    listed = _listed(folder)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if listed["python"] != running:
        raise OfflineError(f"{folder} was made for Python {listed['python']}, this is {running}; make it for {running}")
    _check_pieces(folder, listed)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".offline-") as name:
        staging, wheels = Path(name) / "packages", Path(name) / "wheels"
        wheels.mkdir()
        for wheel, record in listed["wheels"].items():
            with (wheels / wheel).open("wb") as joined:
                for piece in record["pieces"]:
                    joined.write((folder / piece).read_bytes())
            if sha256(wheels / wheel) != record["sha256"]:
                raise OfflineError(f"the pieces of {wheel} do not make it up again; copy {folder} again")
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--quiet"]
        command += ["--disable-pip-version-check", "--target", str(staging), *map(str, sorted(wheels.iterdir()))]
        if subprocess.run(command, check=False).returncode != 0:
            raise OfflineError("pip could not install the wheels, see its lines above")
        refuse_mix(staging)
        shutil.move(staging, target)
    print(f"{target}: {len(listed['wheels'])} packages. Use them with: export PYTHONPATH={target.resolve()}")
    for line in told_of_others(target):
        print(line)


def _listed(folder: Path) -> dict[str, Any]:
    try:
        listed: dict[str, Any] = json.loads((folder / LIST).read_text())
    except (OSError, ValueError) as error:
        raise OfflineError(
            f"{folder / LIST} cannot be read ({error}); expected a folder that 'make' has written"
        ) from error
    return listed


def _check_pieces(folder: Path, listed: dict[str, Any]) -> None:
    missing, damaged = [], []
    for record in listed["wheels"].values():
        for piece, expected in record["pieces"].items():
            path = folder / piece
            if not path.is_file():
                missing.append(piece)
            elif sha256(path) != expected:
                damaged.append(piece)
    if missing or damaged:
        named = [f"missing {piece}" for piece in missing] + [f"damaged {piece}" for piece in damaged]
        raise OfflineError(f"{folder}: {'; '.join(named)}; copy these files and run this again")


def refuse_mix(folder: Path) -> None:
    """Raise OfflineError where a folder holds two packages of one module, which overwrite each other's files."""
    found = sorted(set(_onnxruntimes([str(folder)])))
    if len(found) > 1:
        raise OfflineError(
            f"the wheels hold {' and '.join(found)}, which are one module; make the folder again with one of them"
        )


def told_of_others(target: Path) -> Iterator[str]:
    """Lines on another ONNX Runtime of this Python, which only stays hidden while `target` comes first."""
    here = set(_onnxruntimes([str(target)]))
    others = sorted(set(_onnxruntimes(sys.path)) - here)
    if here and others:
        yield (
            f"This Python also has {', '.join(others)}. PYTHONPATH puts {', '.join(sorted(here))} before it; do not "
            "install it into this Python beside the other."
        )


def _onnxruntimes(path: Sequence[str]) -> Iterator[str]:
    for found in metadata.distributions(path=list(path)):
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name in ONNXRUNTIMES:
            yield f"{name} {found.version}"


def sha256(path: Path) -> str:
    """The file's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 where nothing was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make|install")
    one = commands.add_parser("make", help="download wheels into a folder, in pieces")
    one.add_argument("folder", type=Path, metavar="WHEELS")
    one.add_argument("requirements", nargs="*", metavar="REQUIREMENT", help="default: what a bundle needs on a GPU")
    one.add_argument("--alone", nargs="+", default=[], metavar="REQUIREMENT", help="more, without what they need")
    one.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", metavar="X.Y")
    one.add_argument("--platform", action="append", metavar="P", help="default: Linux on x86-64, glibc 2.28 or newer")
    one.add_argument("--piece-mb", type=int, default=PIECE_MB, metavar="MB", help="default: %(default)s")
    two = commands.add_parser("install", help="join the pieces and install the wheels into a folder")
    two.add_argument("folder", type=Path, metavar="WHEELS")
    two.add_argument("target", type=Path, metavar="TARGET")
    args = parser.parse_args(arguments)
    try:
        if args.command == "make":
            wanted = (args.requirements, args.alone) if args.requirements or args.alone else (needs(), ALONE)
            make(
                args.folder,
                *wanted,
                python=args.python,
                platforms=args.platform or PLATFORMS,
                piece_mb=args.piece_mb,
            )
        else:
            install(args.folder, args.target)
    except (OfflineError, OSError) as error:
        print(f"offline: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
