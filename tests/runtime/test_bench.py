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
    refined_classes,
    stages_of,
)
from t2d_runtime.cli import main
from t2d_runtime.device.machine import peak_resident_bytes
from t2d_runtime.errors import BackendError, DataError, OptionError

NAMES = ("sky", "grass", "person")


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


def test_the_stages_end_in_the_labels_of_the_whole(stages: Stages, segmenter: Segmenter, photograph: Path) -> None:
    outputs: dict[str, Any] = {name: call() for name, call in stages.items()}
    classes = segmenter.encode_classes(NAMES)
    whole = segmenter.segment(photograph, classes, background=True)
    refined = segmenter.segment(photograph, classes, background=True, refine=True)
    np.testing.assert_array_equal(outputs["labels"], whole.label_map)
    np.testing.assert_array_equal(outputs["labels after PAMR"], refined.label_map)
    np.testing.assert_array_equal(outputs[WHOLE].label_map, whole.label_map)
    np.testing.assert_array_equal(outputs[WHOLE_REFINED].label_map, refined.label_map)
    assert (whole.label_map != refined.label_map).any()
    encoding = segmenter.encode_image(photograph)
    np.testing.assert_array_equal(outputs["encode"].patch_tokens, encoding.patch_tokens)
    np.testing.assert_allclose(outputs[WORDS], classes.vectors, atol=1e-6)


def test_classes_that_can_win_nowhere_are_not_counted(segmenter: Segmenter, photograph: Path) -> None:
    encoding = segmenter.encode_image(photograph)
    tokens = encoding.patch_tokens[0].reshape(-1, encoding.patch_tokens.shape[-1])
    vectors = np.stack([tokens[0], -tokens.mean(axis=0)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = ClassEmbeddings(("here", "nowhere"), vectors, segmenter.vocabulary_digest)
    assert refined_classes(segmenter, encoding, classes) == 1
    stages = stages_of(segmenter, photograph, NAMES, classes=classes)
    result: Any = stages[WHOLE]()
    assert result.class_names == ("background", "here", "nowhere")
    assert [len(planes) for planes in cast("Any", stages["upsampling"]())] == [1, 1, 1]


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
    assert figures.windows > 1
    assert 0 < figures.refined_classes <= figures.classes == 5


def test_the_table_names_every_stage(result: BenchResult) -> None:
    text = "\n".join(lines_of(result))
    for name in (*result.figures.stages, "first on a machine", "later", "ONNX Runtime"):
        assert name in text


def test_a_comparison_shows_ratios_and_what_differs(result: BenchResult, tmp_path: Path) -> None:
    figures = result.figures
    half = {name: replace(stage, p50_ms=stage.p50_ms / 2) for name, stage in figures.stages.items()}
    faster = replace(result, figures=replace(figures, stages=half, classes=171))
    result.save(tmp_path / "a.json")
    faster.save(tmp_path / "b.json")
    lines = list(comparison(tmp_path / "a.json", tmp_path / "b.json"))
    assert "not the same task: classes is 5 in A and 171 in B" in lines
    assert sum("not the same task" in line for line in lines) == 1
    assert next(line for line in lines if line.startswith("encode")).endswith(" 2.00x")
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
    assert asked == [BenchSettings(Path("BUNDLE"), Path("a.png"), ("sky", "sea"), "openvino", "int8", 3, 5, 1)]
    assert "224 x 179 pixels in 2 windows, 5 classes" in capsys.readouterr().out
    assert main(["bench", "--compare", *2 * [str(tmp_path / "a.json")]]) == 0
    assert "1.00x" in capsys.readouterr().out


def test_an_image_and_words_of_ones_own_are_measured(exported_bundle: Path, photograph: Path) -> None:
    settings = BenchSettings(exported_bundle, photograph, NAMES, "onnxruntime", num_threads=1, rounds=1, starts=1)
    figures = measure(settings).figures
    assert (figures.image_size, figures.windows, figures.classes, figures.threads) == ((200, 340), 3, 3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a BUNDLE to measure"),
        (["BUNDLE", "--compare", "a.json", "b.json"], "expected a BUNDLE to measure"),
        (["BUNDLE", "--rounds", "0"], "rounds is 0"),
        (["BUNDLE", "--image", "nowhere.png"], "nowhere.png: no such image file"),
        (["BUNDLE", "--classes", "sky,,"], "a blank name"),
        (["BUNDLE", "--backend", "abacus"], "unknown backend 'abacus'"),
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
    with pytest.raises(BackendError, match="is not a bundle"):
        time_start({"open": opening, "image": "", "class_names": NAMES, "refine": False}, {})


def test_peak_memory_rises_with_what_is_held() -> None:
    before = peak_resident_bytes() or 0
    held = np.ones(before + 2**26, np.uint8)
    assert (peak_resident_bytes() or 0) > len(held)
