"""PAMR's compiled loops: that they are there, that wrong ones are not taken, and what they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.cli import main
from t2d_runtime.commands.installation import examine
from t2d_runtime.errors import OptionError
from t2d_runtime.masks.pamr import compiled_kernels
from t2d_runtime.masks.pamr.choice import fastest_kernels, loops_here
from t2d_runtime.masks.pamr.compiled_kernels import LIBRARY, SOURCE, VERSIONS, CompiledKernels, library
from t2d_runtime.masks.pamr.kernels import Grid, Kernels
from t2d_runtime.masks.pamr.numpy_kernels import NumpyKernels
from t2d_runtime.masks.pamr.refine import refine

PUBLISHED = PamrSettings(dilations=(1, 2, 4, 8, 12, 24), iterations=10)
GRID = Grid(20, 30, (1, 4))


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """No loops chosen yet, before and after."""
    for cached in (library, fastest_kernels):
        cached.cache_clear()
    yield
    for cached in (library, fastest_kernels):
        cached.cache_clear()


def has_compiler() -> bool:
    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def test_where_there_is_a_compiler_the_loops_are_compiled() -> None:
    if has_compiler():
        assert fastest_kernels() is CompiledKernels, f"{LIBRARY} is missing or old; pip install -e . builds it"
    if fastest_kernels() is CompiledKernels:
        assert loops_here() in {"compiled loops", "compiled loops, with AVX2", "compiled loops, with AVX-512"}
    else:
        assert loops_here().startswith("NumPy loops")


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("fault", ["missing", "no library", "another library", "of another source"])
def test_without_the_library_numpy_s_loops_are_taken(
    fault: str,
    exported_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / LIBRARY.name
    if fault == "no library":
        path.write_text("int main;")
    elif fault == "another library":
        import _ctypes  # built into Python on some systems: then as if it were missing

        if getattr(_ctypes, "__file__", None):
            shutil.copy(_ctypes.__file__, path)
    elif fault == "of another source" and LIBRARY.exists():
        shutil.copy(LIBRARY, path)
        monkeypatch.setattr(compiled_kernels, "SOURCE", tmp_path / "pamr.c")
        (tmp_path / "pamr.c").write_bytes(SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(compiled_kernels, "LIBRARY", path)
    with caplog.at_level("INFO"):
        assert fastest_kernels() is NumpyKernels
    assert str(path) in caplog.text
    said = "NumPy loops; for the compiled ones, where there is a C compiler, in a checkout of t2d-runtime: pip install"
    assert any(line.startswith(f"PAMR: {said}") for line in examine())
    assert main(["info", str(exported_bundle)]) == 0
    assert said in capsys.readouterr().out
    refined = refine(np.zeros((5, 6, 3), np.uint8), np.ones((1, 5, 6), np.float32), PUBLISHED)
    np.testing.assert_allclose(refined, 1, rtol=1e-6)


def test_line_ends_of_the_source_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = compiled_kernels.source_digest()
    monkeypatch.setattr(compiled_kernels, "SOURCE", tmp_path / "pamr.c")
    (tmp_path / "pamr.c").write_bytes(SOURCE.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert compiled_kernels.source_digest() == digest


def versions_here() -> list[int]:
    return list(range(library().pamr_version() + 1)) if fastest_kernels() is CompiledKernels else []


def refined_by(version: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image, planes = rng.integers(0, 256, (61, 53, 3), np.uint8), rng.random((count, 61, 53), np.float32)
    return refine(image, planes, PUBLISHED, kernels=lambda grid: CompiledKernels(grid, version))


@pytest.mark.parametrize("count", [1, 3, 6, 16])
def test_the_instructions_change_no_bit_but_for_products_and_sums_in_one(count: int) -> None:
    """AVX2 and AVX-512 round a product and its sum once, what any x86 processor has rounds both."""
    results = [refined_by(version, count) for version in versions_here()]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=2e-6)
        np.testing.assert_array_equal(result, results[1])


def test_numbers_that_are_none_stay_near_and_in_their_class() -> None:
    planes = np.full((18, 40, 90), 0.5, np.float32)
    planes[3, 20, 10], planes[17, 20, 10] = np.nan, np.inf
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    near = PamrSettings((1, 2), 2)
    for loops in (NumpyKernels, fastest_kernels()):
        refined = refine(image, planes, near, kernels=loops)
        strange = ~np.isfinite(refined)
        assert set(np.flatnonzero(strange.any(axis=(1, 2)))) == {3, 17}
        rows, columns = np.nonzero(strange.any(axis=0))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 24, 6, 14)


def calls(kernels: Kernels) -> dict[str, Callable[[], object]]:
    """Calls that would read or write where nothing of theirs is."""
    padded, weights = kernels.new_padded(2), kernels.new_weights()
    planes = np.zeros((2, 20, 30), np.float32)
    colours = kernels.new_padded(3)
    return {
        "rows before the first": lambda: kernels.spread(padded, weights, padded.copy(), -1, 5),
        "rows after the last": lambda: kernels.weigh(colours, weights, 0, 21),
        "rows the wrong way round": lambda: kernels.put(planes, padded, 5, 4),
        "too few planes": lambda: kernels.put(planes, padded[:1], 0, 20),
        "numbers of another kind": lambda: kernels.put(planes.astype(np.float64), padded, 0, 20),
        "numbers that lie apart": lambda: kernels.take(padded, np.zeros((2, 20, 60), np.float32)[:, :, ::2], 0, 20),
        "weights of another size": lambda: kernels.spread(padded, weights[:-1], padded.copy(), 0, 20),
        "two colours": lambda: kernels.weigh(padded, weights, 0, 20),
        "a target that cannot be written": lambda: kernels.put(planes, _fixed(padded), 0, 20),
        "no planes": lambda: kernels.new_padded(0),
        "too many planes": lambda: kernels.new_padded(17),
    }


def _fixed(array: np.ndarray) -> np.ndarray:
    fixed = array.copy()
    fixed.flags.writeable = False
    return fixed


def test_nothing_outside_of_the_arrays_is_touched() -> None:
    if fastest_kernels() is NumpyKernels:  # NumPy looks after its arrays itself
        return
    for call in calls(CompiledKernels(GRID)).values():
        with pytest.raises(OptionError, match="expected"):
            call()
    for version in (-1, len(VERSIONS)):
        with pytest.raises(OptionError, match=f"version is {version}"):
            CompiledKernels(GRID, version)


@pytest.mark.parametrize("dilations", [(), (0,), (-1, 2), (2**30,), tuple(range(1, 34))])
def test_impossible_dilations_are_refused(dilations: tuple[int, ...]) -> None:
    image, planes = np.zeros((5, 6, 3), np.uint8), np.zeros((1, 5, 6), np.float32)
    with pytest.raises(OptionError, match="expected at least one pixel, and 1 to 32 dilations from 1"):
        refine(image, planes, PamrSettings(dilations, 1))
