"""PAMR's file in C, called from C++ as docs/pamr.md shows, with the compiler's checks of addresses and arithmetic."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.masks.pamr.compiled_kernels import SOURCE
from t2d_runtime.masks.pamr.numpy_kernels import NumpyKernels
from t2d_runtime.masks.pamr.refine import refine

PAGE = Path(__file__).parents[2] / "docs" / "pamr.md"

MAIN = """
#include <cstdio>

template <class T> std::vector<T> read(size_t count) {
    std::vector<T> values(count);
    if (std::fread(values.data(), sizeof(T), count, stdin) != count) std::exit(3);
    return values;
}

int main() {
    int sizes[5];  // height, width, classes, dilations, iterations: for each picture
    while (std::fread(sizes, sizeof(int), 5, stdin) == 5) {
        const auto dilations = read<int>(sizes[3]);
        const auto image = read<uint8_t>(size_t(3) * sizes[0] * sizes[1]);
        auto planes = read<float>(size_t(sizes[2]) * sizes[0] * sizes[1]);
        refine(image.data(), sizes[0], sizes[1], planes.data(), sizes[2], dilations, sizes[4]);
        std::fwrite(planes.data(), sizeof(float), planes.size(), stdout);
    }
}
"""

FLAGS = ("-ffp-contract=fast", "-fno-math-errno")
CHECKS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

CASES = [
    # height, width, classes, dilations
    (1, 1, 1, (1, 2, 4, 8, 12, 24)),
    (1, 37, 2, (3,)),
    (29, 1, 3, (1, 40)),
    (7, 16, 8, (1,)),
    (13, 17, 9, (2, 5)),
    (5, 31, 21, (1, 2)),
    (33, 48, 33, (1, 24)),
]


def snippet() -> str:
    (code,) = re.findall(r"```cpp\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def built(folder: Path) -> Path | None:
    """The page's function as a program, with checks where the compiler has them; None without a compiler."""
    c, cpp = shutil.which("cc") or shutil.which("gcc"), shutil.which("c++") or shutil.which("g++")
    if c is None or cpp is None:
        return None
    (folder / "main.cpp").write_text("#include <cstdlib>\n" + snippet() + MAIN)
    for checks in (CHECKS, ()):
        commands = (
            [c, "-O1", *FLAGS, *checks, "-c", str(SOURCE), "-o", str(folder / "pamr.o")],
            [cpp, "-std=c++17", "-O1", *checks, str(folder / "main.cpp"), str(folder / "pamr.o")],
        )
        done = [
            subprocess.run([*command, *out], capture_output=True, text=True, check=False)
            for command, out in zip(commands, ([], ["-o", str(folder / "refine")]), strict=True)
        ]
        if all(one.returncode == 0 for one in done) and run(folder / "refine", b"").returncode == 0:
            return folder / "refine"
    pytest.fail(done[0].stderr + done[1].stderr)


def run(program: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program], input=data, capture_output=True, check=False)


def picture(case: tuple[int, int, int, tuple[int, ...]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    height, width, classes, _ = case
    rng = np.random.default_rng(height)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.random((classes, height, width), np.float32)


def test_the_page_s_program_gives_what_python_gives(tmp_path: Path) -> None:
    program = built(tmp_path)
    if program is None:  # at least the page declares what the file defines
        declared = set(re.findall(r"^(?:int|void) (pamr_\w+)\(", snippet(), re.MULTILINE))
        assert declared <= set(re.findall(r"^PUBLIC .*?(pamr_\w+)\(", SOURCE.read_text(), re.MULTILINE))
        return
    data, expected = b"", []
    for case in CASES:
        image, planes = picture(case)
        height, width, classes, dilations = case
        sizes = np.array([height, width, classes, len(dilations), 3, *dilations], np.int32)
        data += sizes.tobytes() + image.tobytes() + planes.tobytes()
        expected.append(refine(image, planes, PamrSettings(dilations, 3), kernels=NumpyKernels).ravel())
    done = run(program, data)
    assert done.returncode == 0, done.stderr.decode()
    np.testing.assert_allclose(np.frombuffer(done.stdout, np.float32), np.concatenate(expected), rtol=0, atol=2e-6)
