"""Latency: what is timed computes the same on both sides, runs where it says, and is held against the right floor."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.__main__ import main
from benchmarks.contenders import encoders as contenders
from benchmarks.contenders.encoders import engine_contender, engine_pairs, require_active, torch_contenders
from benchmarks.contenders.planted import planted_classes
from benchmarks.contenders.roofline import Roofline, encoder_flop
from benchmarks.contenders.torch_stages import padded_prompts, torch_stages
from benchmarks.latency import sweeps
from benchmarks.latency.command import encoder_rows
from benchmarks.timing import Timing
from t2d_export.model.reference import Reference, load_reference
from t2d_runtime import Segmenter
from t2d_runtime.bench.stages import stages_of
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.errors import BackendError, BackendUnavailableError, OptionError
from t2d_runtime.image.preprocess import resize

WORDS = ["sky", "grass", "person"]
MODEL = Path(__file__).parents[2] / "models" / "tiny"


@pytest.fixture(scope="module")
def segmenter(exported_bundle: Path) -> Segmenter:
    return Segmenter.open(exported_bundle, backend="onnxruntime")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference(backbone=str(MODEL))


@pytest.fixture(scope="module")
def window(segmenter: Segmenter) -> NDArray[np.uint8]:
    return resize(data.coffee(), segmenter.manifest.windows.crop_size)


def test_both_sides_of_a_stage_compute_the_same(
    segmenter: Segmenter, reference: Reference, window: NDArray[np.uint8]
) -> None:
    classes = planted_classes(segmenter, segmenter.encode_image(window), 5)
    ours = stages_of(segmenter, window, WORDS, classes=classes)
    weight, embeds = segmenter.manifest.defaults.cleaning_weight, torch.from_numpy(classes.vectors.copy())
    theirs: Any = torch_stages(reference, window, embeds, padded_prompts(segmenter, WORDS), weight)
    assert set(theirs) < set(ours)
    outputs: dict[str, Any] = {name: ours[name]() for name in theirs}
    tokens = outputs["encode"].patch_tokens[0]
    np.testing.assert_allclose(theirs["encode"]()[0].reshape(tokens.shape), tokens, atol=1e-3)
    np.testing.assert_allclose(theirs["words"](), outputs["words"], atol=1e-5)
    scores = theirs["similarity"]().reshape(outputs["similarity"][0].shape)
    np.testing.assert_allclose(scores, outputs["similarity"][0], atol=1e-5)
    np.testing.assert_allclose(theirs["cleaning"](), outputs["cleaning"][0], atol=1e-5)
    for name in ("labels", "labels after PAMR"):
        assert (theirs[name]().numpy() == outputs[name]).mean() > 0.999
    whole = outputs["image to labels, PAMR"].label_map
    assert (theirs["image to labels, PAMR"]() == whole).mean() > 0.999
    assert (theirs["image to labels"]() != whole).any()


def test_a_time_under_another_engines_name_is_refused(segmenter: Segmenter) -> None:
    require_active(segmenter, "onnxruntime", "fp32")
    require_active(segmenter, "auto", "fast")
    with pytest.raises(BackendError, match="asked for openvino in fp32, but onnxruntime in fp32 is active"):
        require_active(segmenter, "openvino", "fp32")
    with pytest.raises(BackendError, match="asked for auto in int8"):
        require_active(segmenter, "auto", "int8")


def test_engines_are_named_with_their_precision(exported_bundle: Path) -> None:
    assert list(engine_pairs(exported_bundle, "openvino:bf16,onnxruntime:int8")) == [
        ("openvino", "bf16"),
        ("onnxruntime", "int8"),
    ]
    assert {("onnxruntime", "fp32"), ("openvino", "int8")} < set(engine_pairs(exported_bundle, "all"))
    with pytest.raises(OptionError, match="BACKEND:PRECISION"):
        list(engine_pairs(exported_bundle, "openvino"))


def test_a_baseline_without_its_needs_says_what_it_needs(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"unknown baselines \['jax'\]"):
        torch_contenders(reference, ["eager", "jax"])
    monkeypatch.setattr(contenders.shutil, "which", lambda name: None)
    with pytest.raises(BackendUnavailableError, match="needs a C\\+\\+ compiler"):
        torch_contenders(reference, ["compile"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailableError, match="with a GPU"):
        torch_contenders(reference, ["cuda"])


def test_bf16_computes_in_bf16(reference: Reference, segmenter: Segmenter, window: NDArray[np.uint8]) -> None:
    full, half = torch_contenders(reference, ["eager", "bf16"])
    outputs: list[Any] = [one.encode(window[np.newaxis]) for one in (full, half)]
    assert outputs[1].patch_tokens.dtype == torch.bfloat16 or (outputs[0][0] != outputs[1][0]).any()
    assert (full.computes_in, half.computes_in) == ("fp32", "bf16")
    assert engine_contender(segmenter).name.endswith("fp32")


def test_the_encoders_work_is_what_pytorch_counts(reference: Reference) -> None:
    pixels = torch.zeros(1, 3, *reference.backbone.input_size)
    # The counter knows plain products, not the fused attention of a CPU.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference.image_features(pixels)
    assert encoder_flop(reference) == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_rows_hold_ratios_and_the_share_of_the_machines_rate(reference: Reference, segmenter: Segmenter) -> None:
    found = [*torch_contenders(reference, ["eager"]), engine_contender(segmenter)]
    timings = {found[0].name: Timing((40.0,) * 3), found[1].name: Timing((10.0,) * 3)}
    rows = encoder_rows(found, timings, Roofline(10**9, {"fp32": 2e11, "bf16": 1e12}))
    assert rows[1]["faster"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert rows[1]["floor_ms"] == pytest.approx(5.0)
    assert rows[1]["share_of_rate"] == pytest.approx(0.5)
    assert rows[0]["per_second"] == pytest.approx(25.0)


def test_the_command_measures_all_it_is_asked_for(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BATCHES": (1, 2), "CLASSES": (1, 3), "SIZES": ((60, 80),), "ROUNDS": 1}.items():
        monkeypatch.setattr(sweeps, name, value)
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    arguments = ["latency", str(exported_bundle), "--backbone", str(MODEL), "--image", str(tmp_path / "coffee.png")]
    options = {
        "--classes": "sky,sea",
        "--rounds": "1",
        "--starts": "0",
        "--threads": "1",
        "--engines": "onnxruntime:int8",
        "--sweep": "batch,threads,classes,windows",
        "--json": str(tmp_path / "latency.json"),
    }
    before = torch.get_num_threads()
    try:
        assert main([*arguments, *(word for pair in options.items() for word in pair)]) == 0
    finally:
        torch.set_num_threads(before)
    figures = json.loads((tmp_path / "latency.json").read_text())["figures"]
    assert [row["name"].split()[-1] for row in figures["encoders"]] == ["float32", "fp32", "int8"]
    assert figures["stages"]["PAMR"]["faster"] > 0
    assert figures["stages"]["decode"]["torch_ms"] is None
    assert set(figures["sweeps"]) == {"batch", "threads", "classes", "windows"}
    for sweep in figures["sweeps"].values():
        assert all(len(times) == len(sweep["values"]) for times in sweep["series"].values())
        assert sweep["rounds"] == [1] * len(sweep["values"])
    assert figures["model_digest"] == Bundle.open(exported_bundle).model_digest
    assert "GFLOP a window" in capsys.readouterr().out


def test_a_long_round_of_a_sweep_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "LONG_ROUND_MS", 50)
    calls = {"quick": 0, "slow": 0}

    def call(name: str, seconds: float) -> None:
        calls[name] += 1
        time.sleep(seconds)

    columns = sweeps._Columns()
    columns.measure({"quick": partial(call, "quick", 0)}, per=2)
    columns.measure({"quick": partial(call, "quick", 0), "slow": partial(call, "slow", 0.06)})
    sweep = columns.sweep("things", "ms", (1, 2))
    assert calls == {"quick": 4 + 2, "slow": 2}, "a warm-up, then the rounds"
    assert sweep.rounds == (sweeps.ROUNDS, 1)
    assert sweep.series["slow"][0] is None
    assert sweep.series["slow"][1] >= 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds is 0"),
        (["--sweep", "colours"], "unknown sweeps ['colours']"),
        (["--backend", "abacus"], "unknown backend 'abacus'"),
        (["--baselines", "jax"], "unknown baselines ['jax']"),
        (["--engines", "onnxruntime:bf16"], "no bfloat16 kernels"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    arguments = ["latency", str(exported_bundle), "--backbone", str(MODEL), "--image", str(tmp_path / "coffee.png")]
    before = torch.get_num_threads()
    assert main([*arguments, "--threads", str(before), *options]) == 2
    assert message in capsys.readouterr().err
