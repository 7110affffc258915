"""`t2d bench`: its stages compute what the runtime computes, and its figures survive their file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from skimage import data

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bench import measure as bench
from t2d_runtime.bench.bench_table import comparison, lines_of
from t2d_runtime.bench.measure import BenchResult, BenchSettings, measure, time_start
from t2d_runtime.bench.stages import (
    KNOWN_WORDS,
    PLAIN_WAY,
    REFINED_WAY,
    WHOLE,
    WHOLE_REFINED,
    WORDS,
    Stages,
    refined_phrases,
    stages_of,
)
from t2d_runtime.bundle.files import TEXT_ENCODER, TOKENIZER
from t2d_runtime.cli import main
from t2d_runtime.device.machine import machine_facts, peak_resident_bytes
from t2d_runtime.errors import BackendError, DataError, OptionError
from t2d_runtime.image.windows import WindowMode
from t2d_runtime.masks.cuda.device import Device
from t2d_runtime.masks.cuda.postprocess import DeviceMasks
from t2d_runtime.masks.postprocess import label_map_of
from t2d_runtime.words.class_list import ClassList, checked_classes

NAMES = ("sky", "grass", "person")
LISTED = checked_classes({"sky": ["sky", "cloud"], "grass": "grass"}, ["person"], {"grass": 0.5})


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "coffee.png"
    Image.fromarray(data.coffee()[:200, :340]).save(path)
    return path


@pytest.fixture(scope="module")
def stages(segmenter: Segmenter, photograph: Path) -> Stages:
    return stages_of(segmenter, photograph, NAMES)


@pytest.fixture(scope="module")
def result(exported_bundle: Path) -> BenchResult:
    return measure(BenchSettings(exported_bundle, backend="onnxruntime", rounds=2, starts=1))


def test_every_stage_is_there_once(stages: Stages) -> None:
    expected = dict.fromkeys([*PLAIN_WAY, *REFINED_WAY, WHOLE, WHOLE_REFINED, WORDS, KNOWN_WORDS])
    assert list(stages) == list(expected)


@pytest.mark.parametrize("window", ["slide", "whole"])
@pytest.mark.parametrize("words", [checked_classes(NAMES), LISTED])
def test_the_stages_end_in_the_labels_of_the_whole(
    segmenter: Segmenter, photograph: Path, words: ClassList, window: WindowMode
) -> None:
    stages = stages_of(segmenter, photograph, words, window=window)
    outputs: dict[str, Any] = {name: call() for name, call in stages.items()}
    classes = segmenter.encode_classes(words)
    whole = segmenter.segment(photograph, classes, background=True, window=window)
    refined = segmenter.segment(photograph, classes, background=True, refine=True, window=window)
    np.testing.assert_array_equal(outputs["labels"], whole.label_map)
    np.testing.assert_array_equal(outputs["labels after PAMR"], refined.label_map)
    np.testing.assert_array_equal(outputs[WHOLE].label_map, whole.label_map)
    np.testing.assert_array_equal(outputs[WHOLE_REFINED].label_map, refined.label_map)
    assert (whole.label_map != refined.label_map).any()
    encoding = segmenter.encode_image(photograph, window)
    np.testing.assert_array_equal(outputs["encode"].patch_tokens, encoding.patch_tokens)
    np.testing.assert_allclose(outputs[WORDS], classes.vectors, atol=1e-6)


def test_classes_that_can_win_nowhere_are_not_counted(segmenter: Segmenter, photograph: Path) -> None:
    encoding = segmenter.encode_image(photograph)
    tokens = encoding.patch_tokens[0].reshape(-1, encoding.patch_tokens.shape[-1])
    vectors = np.stack([tokens[0], -tokens.mean(axis=0)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = ClassEmbeddings(("here", "nowhere"), vectors, segmenter.vocabulary_digest)
    assert refined_phrases(encoding, classes, segmenter.check_options(classes, background=True)) == 1
    stages = stages_of(segmenter, photograph, NAMES, classes=classes)
    result: Any = stages[WHOLE]()
    assert result.class_names == ("background", "here", "nowhere")
    assert [len(planes) for planes in cast("Any", stages["upsampling"]())] == [1, 1, 1]


def test_masks_on_a_gpu_have_none_of_the_hosts_stages(segmenter: Segmenter, photograph: Path) -> None:
    on_gpu = Segmenter(segmenter.encoders, DeviceMasks(cast("Device", None)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceMasks, "label_map_of", lambda _, *arguments, **options: label_map_of(*arguments, **options))
        stages = stages_of(on_gpu, photograph, NAMES)
    assert list(stages) == ["decode", "resize", "encode", WHOLE, WHOLE_REFINED, WORDS, KNOWN_WORDS]


def test_new_words_are_encoded_every_time(segmenter: Segmenter, photograph: Path) -> None:
    seen: list[int] = []
    encode = segmenter.encoders.run_text_encoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter.encoders, "run_text_encoder", lambda ids: seen.append(len(ids)) or encode(ids))
        stages = stages_of(segmenter, photograph, NAMES)
        seen.clear()
        stages[WORDS]()
        stages[WORDS]()
        stages[KNOWN_WORDS]()
    assert sum(seen) == 2 * len(NAMES)


def test_figures_survive_their_file(result: BenchResult, tmp_path: Path) -> None:
    result.save(tmp_path / "a.json")
    assert BenchResult.load(tmp_path / "a.json") == result
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["command"] == "bench"
    assert content["provenance"]["cpu"]
    assert content["figures"]["backend"] == "onnxruntime"


def test_figures_are_plausible(result: BenchResult) -> None:
    figures = result.figures
    for stage in figures.stages.values():
        assert 0 < stage.p50_ms <= stage.p95_ms <= stage.p99_ms
    assert figures.stages[WHOLE].p50_ms > figures.stages["encode"].p50_ms / 2
    for start in (figures.start, figures.first_start):
        steps = start.import_ms + start.open_ms + start.words_ms + start.mask_ms
        assert steps < start.whole_ms
        assert start.peak_bytes is None or start.peak_bytes > 50 * 2**20
    assert figures.batch_per_second is not None
    assert figures.batch_per_second > 0
    assert figures.windows > 1
    assert (figures.window, figures.phrases) == ("slide", None)
    assert 0 < figures.refined_classes <= figures.classes == 5


def test_the_table_names_every_stage(result: BenchResult) -> None:
    text = "\n".join(lines_of(result))
    for name in (*result.figures.stages, "segment_batch", "first on a machine", "later", "ONNX Runtime"):
        assert name in text


def test_a_comparison_shows_ratios_and_what_differs(result: BenchResult, tmp_path: Path) -> None:
    figures = result.figures
    half = {name: replace(stage, p50_ms=stage.p50_ms / 2) for name, stage in figures.stages.items()}
    rate = 2 * (figures.batch_per_second or 0)
    faster = replace(result, figures=replace(figures, stages=half, classes=171, batch_per_second=rate))
    result.save(tmp_path / "a.json")
    faster.save(tmp_path / "b.json")
    lines = list(comparison(tmp_path / "a.json", tmp_path / "b.json"))
    assert "not the same task: classes is 5 in A and 171 in B" in lines
    assert sum("not the same task" in line for line in lines) == 1
    assert next(line for line in lines if line.startswith("encode")).endswith(" 2.00x")
    assert next(line for line in lines if line.startswith("segment_batch")).endswith(" 2.00x")
    assert next(line for line in lines if line.startswith("later start")).endswith(" 1.00x")


@pytest.mark.parametrize("content", ["not JSON", "[]", '{"command": "bench"}', '{"command": "latency", "figures": {}}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json"):
        BenchResult.load(tmp_path / "a.json")


def test_the_command_passes_its_options_on_prints_and_saves(
    result: BenchResult, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BenchSettings] = []
    monkeypatch.setattr(bench, "measure", lambda settings: asked.append(settings) or result)
    options = ["--image", "a.png", "--classes", "sky, sea", "--backend", "openvino", "--precision", "int8"]
    options += ["--threads", "3", "--rounds", "5", "--starts", "1", "--json", str(tmp_path / "a.json")]
    assert main(["bench", "BUNDLE", *options]) == 0
    words = checked_classes(["sky", "sea"])
    expected = BenchSettings(Path("BUNDLE"), Path("a.png"), words, backend="openvino", precision="int8", num_threads=3)
    assert asked == [replace(expected, rounds=5, starts=1)]
    assert "224 x 179 pixels in 2 windows, 5 classes" in capsys.readouterr().out
    assert main(["bench", "--compare", *2 * [str(tmp_path / "a.json")]]) == 0
    assert "1.00x" in capsys.readouterr().out


def test_an_image_and_words_of_ones_own_are_measured(exported_bundle: Path, photograph: Path) -> None:
    settings = BenchSettings(
        exported_bundle, photograph, LISTED, window="whole", backend="onnxruntime", num_threads=1, rounds=1, starts=1
    )
    figures = measure(settings).figures
    assert (figures.image_size, figures.threads) == ((200, 340), 1)
    assert (figures.window, figures.windows, figures.classes, figures.phrases) == ("whole", 1, 2, 4)
    text = "\n".join(lines_of(BenchResult("bench", machine_facts(), figures)))
    assert "in 1 window, 2 classes of 4 phrases with background" in text


def test_a_device_without_a_text_encoder_is_measured_with_a_vocabulary(
    bundle_copy: Path, segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (bundle_copy / TOKENIZER, *bundle_copy.rglob(TEXT_ENCODER)):
        path.unlink()
    here = ["bench", str(bundle_copy), "--backend", "onnxruntime", "--rounds", "1", "--starts", "1"]
    assert main(here) == 2
    assert "'t2d bench --vocabulary F' measures without it" in capsys.readouterr().err
    segmenter.encode_classes(LISTED).save(tmp_path / "words.npz")
    saved = tmp_path / "a.json"
    assert main([*here, "--vocabulary", str(tmp_path / "words.npz"), "--json", str(saved)]) == 0
    figures = BenchResult.load(saved).figures
    assert (figures.classes, figures.phrases) == (2, 4)
    assert list(figures.stages) == [*dict.fromkeys([*PLAIN_WAY, *REFINED_WAY]), WHOLE, WHOLE_REFINED]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a BUNDLE to measure"),
        (["BUNDLE", "--compare", "a.json", "b.json"], "expected a BUNDLE to measure"),
        (["BUNDLE", "--rounds", "0"], "rounds is 0"),
        (["BUNDLE", "--image", "nowhere.png"], "nowhere.png: no such image file"),
        (["BUNDLE", "--classes", "sky,,"], "a blank name"),
        (["BUNDLE", "--backend", "abacus"], "unknown backend 'abacus'"),
        (["BUNDLE", "--classes-file", "nowhere.txt"], "cannot read nowhere.txt: no such file"),
        (["BUNDLE", "--vocabulary", "nowhere.npz"], "nowhere.npz: no such vocabulary"),
        (["BUNDLE", "--postprocess", "gpu"], "postprocess is 'gpu', expected one of"),
        (["--compare", "a.json", "b.json", "--classes-file", "a.txt"], "--classes-file has no effect with --compare"),
        (["--compare", "nowhere.json", "nowhere.json"], "cannot read nowhere.json: no such file"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["bench", *(str(exported_bundle) if option == "BUNDLE" else option for option in options)]) == 2
    assert message in capsys.readouterr().err


def test_rounds_and_starts_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="starts 0"):
        measure(BenchSettings(tmp_path, starts=0))


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    opening = {"bundle": str(tmp_path), "backend": "auto", "precision": "fp32", "num_threads": None}
    job = {"open": opening, "image": "", "words": {"classes": NAMES}, "window": "slide", "refine": False}
    with pytest.raises(BackendError, match="is not a bundle"):
        time_start(job, {})


def test_peak_memory_rises_with_what_is_held() -> None:
    before = peak_resident_bytes() or 0
    held = np.ones(before + 2**26, np.uint8)
    assert (peak_resident_bytes() or 0) > len(held)
