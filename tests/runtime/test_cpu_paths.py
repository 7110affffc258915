"""What is said of processors that are not at hand: with AMX, AVX2 alone, ARM, and systems that tell nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.cli import main
from t2d_runtime.commands.cpu_paths import cpu_paths, units
from t2d_runtime.device import cpu as cpu_module
from t2d_runtime.device.cpu import NUMPY_NAMES, UNITS, confirmed, cpu, described, numpy_features
from t2d_runtime.masks.pamr.choice import loops_here

SAPPHIRE_RAPIDS = (
    "model name : Xeon 8480\nflags : sse2 avx2 avx512f avx_vnni avx512_vnni avx512_bf16 amx_bf16 amx_int8\n"
)
ZEN4 = "model name : EPYC 9354\nflags : sse2 avx2 avx512f avx512_vnni avx512_bf16\n"
SKYLAKE = "model name : Xeon 6148\nflags : sse2 avx2 avx512f\n"
ALDER_LAKE = "model name : Core i7-12700\nflags : sse2 avx2 avx_vnni\n"
HASWELL = "model name : Core i7-4770\nflags : sse2 avx2\n"
OLD = "model name : Core 2\nflags : sse2\n"
GRAVITON3 = "processor : 0\nFeatures : fp asimd asimddp sve bf16 i8mm\n"
RASPBERRY = "processor : 0\nFeatures : fp asimd\n"


@pytest.mark.parametrize(
    ("text", "fp32", "bf16", "int8"),
    [
        (SAPPHIRE_RAPIDS, "AVX-512", "AMX", "AMX"),
        (ZEN4, "AVX-512", "AVX512-BF16", "AVX512-VNNI"),
        (SKYLAKE, "AVX-512", "no bfloat16 units", "no units for int8"),
        (ALDER_LAKE, "AVX2", "no bfloat16 units", "AVX-VNNI"),
        (HASWELL, "AVX2", "no bfloat16 units", "no units for int8"),
        (OLD, "no vector units known", "no bfloat16 units", "no units for int8"),
        (GRAVITON3, "ARM Advanced SIMD", "ARM's bfloat16", "ARM's int8 matrix"),
        (RASPBERRY, "ARM Advanced SIMD", "no bfloat16 units", "no units for int8"),
    ],
)
def test_units_of_processors_that_are_not_at_hand(text: str, fp32: str, bf16: str, int8: str) -> None:
    processor = described(iter(text.splitlines(keepends=True)))
    assert units(processor, "fp32").startswith(fp32)
    assert units(processor, "bf16").startswith(bf16)
    assert units(processor, "int8").startswith(int8)
    assert fp32 in units(processor, "fp16")


def test_only_the_first_processor_is_read() -> None:
    lines = iter([*HASWELL.splitlines(keepends=True), "\n", *ZEN4.splitlines(keepends=True)])
    assert described(lines).model == "Core i7-4770"
    assert described(iter(GRAVITON3.splitlines(keepends=True))).model == platform.machine()


def features(*units: str) -> dict[str, bool]:
    """As NumPy tells them on a processor that has these units."""
    return {name: unit in units for unit, name in NUMPY_NAMES.items()}


@pytest.mark.parametrize(
    ("told", "found", "units"),
    [
        # NumPy does not look for avx_vnni and AMX: those of /proc/cpuinfo count.
        ((ALL := ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8")), ALL, ALL),
        # Under an emulator /proc/cpuinfo is the machine's: a unit that NumPy denies makes all of it another's.
        (ALL, ("avx2",), ("avx2",)),
        (ALL, (), ()),
        (("asimd", "bf16", "i8mm"), ("avx2", "avx512f"), ("avx2", "avx512f")),
        # Where there is no /proc/cpuinfo, NumPy's are all that is known.
        ((), ("avx2", "avx512_bf16"), ("avx2", "avx512_bf16")),
        (("asimd", "i8mm"), ("asimd", "asimddp"), ("asimd", "asimddp", "i8mm")),
    ],
)
def test_units_are_those_of_the_processor_that_runs_this_process(
    told: tuple[str, ...], found: tuple[str, ...], units: tuple[str, ...]
) -> None:
    assert confirmed(told, features(*found)) == units
    assert confirmed(told, {}) == told


def test_this_processor_has_the_units_that_numpy_finds() -> None:
    found = numpy_features()
    assert set(NUMPY_NAMES.values()) & set(found)
    assert set(NUMPY_NAMES) < set(UNITS)
    for unit, name in NUMPY_NAMES.items():
        assert (unit in cpu().units) == found.get(name, unit in cpu().units)


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """Nothing remembered of this machine, before and after."""
    cpu_module.cpu.cache_clear()
    yield
    cpu_module.cpu.cache_clear()


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("text", [HASWELL, GRAVITON3, None])
def test_info_says_which_paths_are_taken(
    exported_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(cpu_module, "CPUINFO", path)
    monkeypatch.setattr(cpu_module, "numpy_features", dict)
    assert main(["info", str(exported_bundle)]) == 0
    lines = {line[:15].strip(): line[16:] for line in capsys.readouterr().out.splitlines()}
    if text is None:
        assert lines["vector units"] == "not told by this system"
        assert lines["fp32 here"].startswith("no vector units known here")
    else:
        assert lines["vector units"] in {"avx2", "asimd asimddp bf16 i8mm sve"}
    assert "not onnxruntime (ONNX Runtime's CPU provider has no bfloat16 kernels" in lines["bf16 here"]
    assert "onnxruntime" in lines["int8 here"]
    assert lines["PAMR"] == loops_here()


def test_an_engine_whose_library_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: OnnxRuntimeBackend, name: str) -> None:
        raise ImportError("libonnxruntime.so: wrong ELF class")

    monkeypatch.setattr(OnnxRuntimeBackend, "__init__", broken)
    assert "not onnxruntime (does not load, see 't2d doctor')" in cpu_paths()["fp32 here"]
