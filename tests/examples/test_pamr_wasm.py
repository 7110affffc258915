"""pamr.wasm: built of the C file as it is, and with the compiled loops' results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.masks.pamr.compiled_kernels import source_digest
from t2d_runtime.masks.pamr.refine import refine

ROOT = Path(__file__).resolve().parents[2]
WASM = ROOT / "examples" / "web" / "t2d" / "pamr.wasm"
BUILD = ROOT / "scripts" / "wasm"
REFINE = Path(__file__).with_name("refine.mjs")

CASES = [
    # height, width, classes, dilations, iterations
    (1, 1, 1, (1, 2, 4, 8, 12, 24), 10),
    (19, 33, 4, (3,), 2),
    (40, 16, 8, (1, 2), 0),
    (33, 50, 30, (1, 2, 4, 8, 12, 24), 10),
    (1, 70, 17, (9, 1), 1),  # smaller than the one before: the memory is used again
]


def test_node_gives_what_python_gives(node: str, tmp_path: Path) -> None:
    pairs, expected = [], []
    for number, (height, width, classes, dilations, iterations) in enumerate(CASES):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        planes = rng.random((classes, height, width), np.float32)
        sizes = np.array([height, width, classes, iterations, len(dilations), *dilations], np.int32)
        (tmp_path / f"{number}.in").write_bytes(sizes.tobytes() + image.tobytes() + planes.tobytes())
        pairs += [tmp_path / f"{number}.in", tmp_path / f"{number}.out"]
        expected.append(refine(image, planes, PamrSettings(dilations, iterations)))
    done = subprocess.run([node, REFINE, WASM, *pairs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for planes, path in zip(expected, pairs[1::2], strict=True):
        np.testing.assert_allclose(np.fromfile(path, np.float32), planes.ravel(), rtol=0, atol=2e-6)
    digest, *errors = done.stdout.splitlines()
    assert digest == source_digest(), "pamr.wasm is of another pamr.c: run bash scripts/wasm"
    assert errors == [
        "InputError: the image has 12 bytes, expected 2 x 4 x 3",
        "InputError: expected a Float32Array of planes of 1 x 4, got 5 numbers",
        "InputError: dilations are 0 and iterations 10, expected 1 to 32 whole numbers from 1, and one from 0",
        "InputError: dilations are 1,2,4,8,12,24 and iterations 1.5, expected 1 to 32 whole numbers from 1, and one "
        "from 0",
    ]


def clang_version() -> str:
    programs = "clang-14", "wasm-ld-14"
    if any(shutil.which(program) is None for program in programs):
        return ""
    return subprocess.run([programs[0], "--version"], check=True, capture_output=True, text=True).stdout


def test_the_command_builds_it_again_bit_for_bit(tmp_path: Path) -> None:
    """With the version of clang that built it; elsewhere the file at least has a head and few kilobytes."""
    before = WASM.read_bytes()
    assert before[:8] == b"\0asm\1\0\0\0"
    assert len(before) < 20_000
    if "14.0.6" in clang_version():
        target = tmp_path / "pamr.wasm"
        subprocess.run(["bash", BUILD, target], check=True, capture_output=True)
        assert target.read_bytes() == before
