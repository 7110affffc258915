"""Latency: what is timed computes the same on both sides, runs where it says, and is held against the right floor."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
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

from benchmarks import timing
from benchmarks.__main__ import main
from benchmarks.contenders import encoders as contenders
from benchmarks.contenders.encoders import engine_contender, engine_pairs, torch_contenders
from benchmarks.contenders.planted import planted_classes
from benchmarks.contenders.roofline import Roofline, encoder_flop
from benchmarks.latency import encoders, installed, processes, sweeps, windows
from benchmarks.latency.command import PARTS
from benchmarks.latency.encoders import encoder_rows
from benchmarks.latency.processes import run_child
from benchmarks.latency.stages import padded_prompts, torch_stages
from benchmarks.latency.tables import Comparison, Row, Sweep
from benchmarks.timing import Timing
from t2d_export.model.reference import Reference, load_reference
from t2d_runtime import Segmenter
from t2d_runtime.bench.measure import StartTime
from t2d_runtime.bench.stages import stages_of
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.device.cpu import cpu
from t2d_runtime.errors import BackendUnavailableError, BenchmarkError, OptionError
from t2d_runtime.image.preprocess import resize
from t2d_runtime.masks.pamr.choice import loops_here

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
    rows = encoder_rows(
        found, timings, Roofline(10**9, {"fp32": 2e11, "bf16": 1e12}, {"fp32": "OpenVINO", "bf16": "PyTorch"})
    )
    assert (rows[1].ratio, rows[1].low, rows[1].high) == (4.0, 4.0, 4.0)
    assert (rows[1].ours, rows[1].theirs) == (10.0, 40.0)
    assert rows[1].floor == pytest.approx(5.0)
    assert rows[1].note == "50% of the matrix rate"
    assert rows[0].ratio is None, "the first contender is what the others are compared with"


def test_a_row_is_the_median_of_the_rounds_ratios() -> None:
    timings = {"slow": Timing((10.0, 40.0, 90.0)), "fast": Timing((10.0, 20.0, 30.0)), "once": Timing((5.0,))}
    row = Row.of("what", timings, "fast", "slow")
    assert (row.ratio, row.ours, row.theirs, row.p95, row.rounds) == (2.0, 20.0, 40.0, 30.0, 3)
    once = Row.of("what", timings, "once")
    assert (once.ratio, once.low, once.p95, once.rounds) == (None, None, None, 1)


def test_a_table_says_this_against_that_and_leaves_out_empty_columns() -> None:
    rows = Row("a", 2.0, 8.0, "ours", "one", 4.0), Row("b", 1.0, 300.0, "ours", "two", 300.0)
    assert str(Comparison("title", rows).blocks()[0]).splitlines() == [
        "title  theirs  theirs, ms  ours, ms  times faster",
        "a         one        8.00      2.00         4.00x",
        "b         two         300      1.00       300.00x",
    ]
    (table, note) = Comparison("title", rows[:1], "MiB", "a note").blocks()
    assert str(table).splitlines()[0].split("  ") == ["title", "one, MiB", "ours, MiB", "times smaller"]
    assert note == "a note"


def test_every_planted_class_wins_somewhere(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*segmenter.manifest.windows.crop_size, 3), np.uint8)
    encoding = segmenter.encode_image(image)
    classes = planted_classes(segmenter, encoding, 40)
    assert set(segmenter.segment(encoding, classes, background=True).label_map.ravel()) >= set(range(1, 41))
    more_than_patches = encoding.patch_tokens[..., 0].size + 5
    assert len(planted_classes(segmenter, encoding, more_than_patches).names) == more_than_patches


def test_the_command_measures_all_it_is_asked_for(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"BATCHES": (1, 2), "CLASSES": (1, 3), "MOST_IN_PYTORCH": 1, "SIZES": ((60, 80),)}
    for name, value in small.items():
        monkeypatch.setattr(sweeps, name, value)
    monkeypatch.setattr(timing, "FEW_ROUNDS", 1)
    monkeypatch.setattr(windows, "FEW", 3)
    monkeypatch.setattr(windows, "MANY", 4)
    monkeypatch.setattr(encoders, "VOCABULARY", "voc20")
    parts = ["stages", "encoders", "words", "windows", "batch", "threads", "classes", "sizes", "phrases"]
    output = tmp_path / "latency.json"
    options = {
        "--classes": "sky,sea",
        "--rounds": "1",
        "--threads": "1",
        "--backend": "onnxruntime",
        "--engines": "onnxruntime:fp32,onnxruntime:int8",
        "--parts": ",".join(parts),
        "--json": str(output),
    }
    arguments = [*command(exported_bundle, tmp_path), *(word for pair in options.items() for word in pair)]
    assert main_in_threads(arguments) == 0
    figures = json.loads(output.read_text())["figures"]
    found = figures["parts"]
    assert list(found) == parts
    rows = {part: found[part]["rows"] for part in parts if "rows" in found[part]}
    assert [row["what"].split()[-1] for row in rows["encoders"]] == ["float32", "fp32", "int8"], "each engine once"
    stages = {row["what"]: row for row in rows["stages"]}
    assert stages["PAMR"]["ratio"] > 0
    assert stages["decode"]["theirs"] is None
    assert [row["what"].split()[-1] for row in rows["words"]] == ["fp32", "int8", "known"]
    assert [(row["what"][0], row["their_name"], row["our_name"][-4:]) for row in rows["windows"]] == [
        (count, theirs, ours)
        for count in "34"
        for theirs in (windows.RELEASED, windows.PLAIN)
        for ours in ("fp32", "int8")
    ]
    assert {row["note"] for row in rows["windows"] if row["our_name"].endswith("fp32")} == {
        "100.000% of the labels equal"
    }
    for name in ("batch", "threads", "classes", "sizes", "phrases"):
        sweep = Sweep(**found[name])
        assert all(len(times) == len(sweep.values) for times in sweep.series.values())
        assert sweep.rounds == [1] * len(sweep.values)
    assert found["classes"]["series"]["PyTorch"][1] is None
    assert found["classes"]["series"]["runtime"][1] > 0
    assert figures["model_digest"] == Bundle.open(exported_bundle).model_digest
    printed = capsys.readouterr().out
    assert f"PAMR: {loops_here()}" in printed
    assert cpu().model in printed
    assert "GFLOP at the rate" in printed


def test_starts_of_both_sides(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "UNCOUNTED", 0)
    ours = StartTime(1000.0, 100.0, 300.0, 50.0, 400.0, 2**28)
    monkeypatch.setattr(processes, "measure_starts", lambda *arguments: (replace(ours, whole_ms=4000.0), ours))
    output = tmp_path / "starts.json"
    options = ["--parts", "starts", "--classes", "sky,sea", "--backend", "onnxruntime", "--json", str(output)]
    assert main_in_threads([*command(exported_bundle, tmp_path), "--threads", "1", *options]) == 0
    first, later = json.loads(output.read_text())["figures"]["parts"]["starts"]["rows"]
    assert (first["ours"], later["ours"]) == (4000, 1000)
    assert first["theirs"] == later["theirs"] > 0
    assert later["ratio"] == pytest.approx(later["theirs"] / 1000)
    assert later["steps"] == {"import": 100, "open": 300, "words": 50, "mask": 400}
    assert later["note"] == "at most 256 MiB"
    assert "PyTorch, ms" in capsys.readouterr().out


def test_a_process_of_its_own_says_what_it_took(exported_bundle: Path) -> None:
    opening = {"bundle": str(exported_bundle), "backend": "onnxruntime", "num_threads": 1}
    job = {"opening": opening, "size": [60, 80], "count": 2, "refine": True}
    figures = run_child("runtime_memory", job)
    assert 0 < figures["ms"] < figures["whole_ms"]
    assert figures["peak_bytes"] > 2**20
    with pytest.raises(BenchmarkError, match="runtime_memory ended with status 1"):
        run_child("runtime_memory", {**job, "count": "none"})


def test_size_on_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = installed.disk_bytes(tmp_path)
    (tmp_path / "folder" / "file").write_bytes(bytes(100_000))
    assert 100_000 <= installed.disk_bytes(tmp_path) - before < 150_000


def test_every_part_has_its_function() -> None:
    for place, _ in PARTS.values():
        module, function = place.split(".")
        assert callable(getattr(importlib.import_module(f"benchmarks.latency.{module}"), function))


def command(bundle: Path, folder: Path) -> list[str]:
    """The command on a photograph, which is written to the folder."""
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    return ["latency", str(bundle), "--backbone", str(MODEL), "--image", str(folder / "coffee.png")]


def main_in_threads(arguments: list[str]) -> int:
    """Run a command; PyTorch keeps this process's number of threads."""
    before = torch.get_num_threads()
    try:
        return main(arguments)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds is 0"),
        (["--parts", "colours"], "unknown parts ['colours']"),
        (["--starts", "0"], "--starts 0, expected at least 1"),
        (["--backend", "abacus"], "unknown backend 'abacus'"),
        (["--baselines", "jax"], "unknown baselines ['jax']"),
        (["--engines", "onnxruntime:bf16"], "no bfloat16 kernels"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main_in_threads([*command(exported_bundle, tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
