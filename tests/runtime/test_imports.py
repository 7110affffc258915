"""The runtime never reaches for PyTorch, ONNX, timm, open_clip or the export."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_type_hints

import pytest

import t2d_runtime
from t2d_runtime import Segmenter
from t2d_runtime.commands.command_line import COMMANDS
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.image.reading import load_image

BLOCKED = ("torch", "onnx", "timm", "open_clip", "t2d_export", "training", "benchmarks")

BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
"""

SEGMENT = """
import numpy, pkgutil, importlib, t2d_runtime
for module in pkgutil.walk_packages(t2d_runtime.__path__, "t2d_runtime."):
    if not module.name.startswith("t2d_runtime.serving."):  # needs its extra: tests/serving imports it
        importlib.import_module(module.name)
from t2d_runtime import Segmenter
segmenter = Segmenter.open(sys.argv[1], backend="onnxruntime")
classes = segmenter.encode_classes(["sky", "grass"])
image = numpy.zeros((40, 60, 3), numpy.uint8)
result = segmenter.segment(image, classes, background=True, refine=True)
print(result.label_map.shape, result.overlay().mode)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )


def test_a_whole_segmentation_runs_where_they_are_blocked(exported_bundle: Path) -> None:
    done = run(BLOCKER + SEGMENT, str(exported_bundle))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["(40,", "60)", "RGB"]


def test_the_blocker_blocks() -> None:
    done = run(BLOCKER + "import torch")
    assert done.returncode == 1
    assert "blocked: torch" in done.stderr


def test_the_package_lists_its_names_and_each_can_be_had() -> None:
    assert dir(t2d_runtime) == sorted([*t2d_runtime.__all__, "__version__"])
    assert all(getattr(t2d_runtime, name).__name__ == name for name in t2d_runtime.__all__)


def test_importing_the_package_loads_no_numpy() -> None:
    done = run("import sys, t2d_runtime; print('numpy' in sys.modules)")
    assert done.stdout.strip() == "False"


def test_a_start_loads_nothing_that_starts_programs_and_nothing_of_hubs_streams_and_gpus() -> None:
    code = "import sys; from t2d_runtime import Segmenter; import t2d_runtime.backends.onnxruntime"
    spared = (
        "subprocess",
        "ctypes.util",
        "urllib.request",
        "importlib.metadata",
        "tqdm",
        "t2d_runtime.streams.sources",
    )
    spared += ("t2d_runtime.masks.cuda.plan",)
    done = run(f"{code}; print([name for name in {spared} if name in sys.modules])")
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_neither_numpy_nor_an_engine_nor_another_command(command: str) -> None:
    code = """
    import sys
    from t2d_runtime.cli import main
    from t2d_runtime.commands.command_line import COMMANDS
    try:
        main([*sys.argv[1:], "--help"])
    except SystemExit:
        heavy = ("numpy", "PIL", "onnxruntime", "openvino", "torch", *(home for home, _ in COMMANDS.values()))
        print([name for name in heavy if name in sys.modules])
    """
    expected = [COMMANDS[command][0]] if command else []
    assert run(code, *([command] if command else [])).stdout.splitlines()[-1] == str(expected)


def test_annotations_can_be_read_at_run_time() -> None:
    """As frameworks and documentation tools do."""
    for call in (Segmenter.segment, Segmenter.encode_image, FusedSegmenter.segment, load_image):
        assert "image" in get_type_hints(call)
    assert "source" in get_type_hints(Segmenter.stream)
