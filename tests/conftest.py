"""The bundle of the small model, exported once per state of the code and kept in build/ for every test run.

tests/runtime also runs where torch is not installed, on the bundle that the full run left behind.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
# training and benchmarks are not installed. At the end, so that an installed t2d_runtime is the one that is tested.
sys.path.append(str(ROOT))

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for tests that import onnxruntime themselves, and for Node's
# The same examples in every run: a failure is a change of the code, and can be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

MODEL = ROOT / "models" / "tiny"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
EXPORT_CODE = (
    "t2d_export/**/*.py",
    "t2d_runtime/bundle/manifest.py",
    "t2d_runtime/proof/selftest.py",
    "models/tiny/*",
)


def hear_interrupts() -> None:
    """Lets a new process (`preexec_fn`) hear Ctrl-C also where the tests run in a shell's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Verdicts and compiled models of a test run stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T2D_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def exported_bundle() -> Path:
    """The small model's bundle, or the one that T2D_TEST_BUNDLE names; not to be written to."""
    return bundle_of_this_code()


def bundle_of_this_code() -> Path:
    """The bundle's folder; exported by the first process that asks for it."""
    if "T2D_TEST_BUNDLE" in os.environ:
        return Path(os.environ["T2D_TEST_BUNDLE"])
    folder = ROOT / "build" / "test-bundles" / _state()
    if (folder / "manifest.json").is_file():
        return folder
    if importlib.util.find_spec("torch") is None:
        pytest.fail(f"{folder} is missing: run 'bash scripts/test wheel', which exports it first")
    from filelock import FileLock

    from t2d_export.export import ExportSettings, export_bundle

    folder.parent.parent.mkdir(exist_ok=True)
    with FileLock(folder.parent.with_suffix(".lock")):  # of several test processes one exports
        if not (folder / "manifest.json").is_file():
            shutil.rmtree(folder.parent, ignore_errors=True)
            export_bundle(ExportSettings(backbone=str(MODEL), precisions=PRECISIONS, fused=True), folder)
    return folder


@pytest.fixture
def bundle_copy(exported_bundle: Path, tmp_path: Path) -> Path:
    """The same bundle in a folder of the test's own, to be damaged."""
    return Path(shutil.copytree(exported_bundle, tmp_path / "bundle"))


def _state() -> str:
    digest = hashlib.sha256()
    for pattern in EXPORT_CODE:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":  # scripts that need the bundle before the tests run
    bundle_of_this_code()
