"""The engine of `auto` and `fast`: measured in turn, remembered, and forgotten where it no longer holds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from t2d_runtime import Segmenter
from t2d_runtime.backends import registry
from t2d_runtime.backends.names import engine_version
from t2d_runtime.backends.openvino import OpenVinoBackend
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.cli import main
from t2d_runtime.device import machine
from t2d_runtime.errors import SelfTestError
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.proof import choice, speeds
from tests.runtime.engine_faults import disturb
from tests.runtime.pretended_speeds import OTHER, Clock, measured, open_here, taken


def memory(cache: Path) -> Path:
    (file,) = (cache / "speeds").iterdir()
    return file


@pytest.mark.parametrize(("gain", "changes"), [(1.04, False), (1.06, True), (3.0, True), (0.5, False)])
def test_auto_changes_the_rule_only_for_a_gain_above_five_percent(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    unproven: None,
    usual: str,
    gain: float,
    changes: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.set(**{f"{usual}_fp32": 50.0, f"{OTHER[usual]}_fp32": 50.0 / gain})
    with caplog.at_level(logging.INFO):
        assert taken(exported_bundle) == usual
        assert f"backend auto: {usual} opens" in caplog.text
        assert "by rule: OpenVINO is the faster one in float32 with AVX-512" in caplog.text
        caplog.clear()
        measured(exported_bundle)
        assert taken(exported_bundle) == (OTHER[usual] if changes else usual)
    assert "as measured in fp32 on 20" in caplog.text
    assert f"{usual} 50 ms a window" in caplog.text
    assert ("the rule's choice stays without a gain above 5%" in caplog.text) == (gain == 1.04)


def test_a_precision_has_its_own_choice_and_the_rule_s_where_none_was_timed(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, usual: str
) -> None:
    clock.set(**{f"{OTHER[usual]}_int8": 10.0})
    measured(exported_bundle)
    assert taken(exported_bundle) == usual
    assert taken(exported_bundle, precision="int8") == OTHER[usual]
    file = memory(cache)
    content = json.loads(file.read_text())
    content["window_ms"] = {name: ms for name, ms in content["window_ms"].items() if not name.endswith("int8")}
    file.write_text(json.dumps(content))
    assert taken(exported_bundle, precision="int8") == usual


def test_the_segmenters_and_fast_use_what_doctor_measured(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, usual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.set(**{f"{OTHER[usual]}_fp32": 20.0, f"{OTHER[usual]}_fp16": 9.0})
    measured(exported_bundle)
    monkeypatch.delattr(speeds, "in_turn")
    assert Segmenter.open(exported_bundle).backend_name == OTHER[usual]
    assert FusedSegmenter.open(exported_bundle).backend_name == OTHER[usual]
    fast = Segmenter.open(exported_bundle, precision="fast")
    assert (fast.backend_name, fast.precision) == (OTHER[usual], "fp16")


def test_auto_uses_what_fast_measured(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, usual: str
) -> None:
    clock.set(**{f"{OTHER[usual]}_fp32": 20.0})
    Segmenter.open(exported_bundle, precision="fast")
    assert taken(exported_bundle) == OTHER[usual]


def test_speeds_are_remembered_by_encoder_processor_and_threads(
    exported_bundle: Path, clock: Clock, unproven: None, cache: Path, usual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.set(**{f"{OTHER[usual]}_fp32": 20.0})
    measured(exported_bundle, "--threads", "1")
    assert taken(exported_bundle, num_threads=1) == OTHER[usual]
    assert taken(exported_bundle, num_threads=64) == usual
    with monkeypatch.context() as patch:
        patch.setattr(speeds, "cpu_name", lambda: "another")
        assert taken(exported_bundle, num_threads=1) == usual
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "graph_digests", lambda self, precision, graphs: ("another",))
        assert taken(exported_bundle, num_threads=1) == usual


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"date"', '"day"'),
        lambda text: text.replace("20.0", '"20"'),
        lambda text: text.replace("20.0", "-20.0"),
        lambda text: text.replace("20.0", "NaN"),
        lambda text: text.replace('"openvino fp32"', '"openvino"').replace('"onnxruntime fp32"', '"onnxruntime"'),
    ],
)
def test_a_damaged_memory_is_ignored_with_a_line_in_the_log(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = OTHER[registry.auto_order()[0]]
    clock.set(**{f"{other}_fp32": 20.0})
    measured(exported_bundle)
    assert taken(exported_bundle) == other
    memory(cache).write_text(damage(memory(cache).read_text()))
    assert taken(exported_bundle) == registry.auto_order()[0]
    (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith("ignored: ")
    assert str(memory(cache)) in line


def test_speeds_of_other_versions_are_ignored_and_measured_again_by_fast(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    unproven: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = OTHER[registry.auto_order()[0]]
    clock.set(**{f"{other}_fp32": 20.0})
    measured(exported_bundle)
    before = engine_version("openvino")
    real = machine.installed_version
    monkeypatch.setattr(machine, "installed_version", lambda name: "9.9" if name == "openvino" else real(name))
    assert taken(exported_bundle) == registry.auto_order()[0]
    assert f"openvino {before} then, 9.9 now" in caplog.text
    Segmenter.open(exported_bundle, precision="fast")
    assert taken(exported_bundle) == other


def test_a_remembered_engine_that_is_gone_is_ignored(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    unproven: None,
    usual: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.set(openvino_fp32=5.0)
    measured(exported_bundle)
    assert taken(exported_bundle) == "openvino"
    for module in (choice, registry):
        monkeypatch.setattr(module, "installed_module", lambda name: name if name == "onnxruntime" else None)
    assert taken(exported_bundle) == "onnxruntime"
    assert f"openvino {engine_version('openvino')} then, not installed now" in caplog.text


def test_a_remembered_engine_that_opens_no_longer_leaves_its_place_to_the_next(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    unproven: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.set(openvino_fp32=5.0, openvino_int8=2.0)
    measured(exported_bundle)

    def broken(self: OpenVinoBackend, name: str) -> None:
        raise RuntimeError("no plugins.xml")

    monkeypatch.setattr(OpenVinoBackend, "__init__", broken)
    assert taken(exported_bundle) == "onnxruntime"
    assert "backend auto: not openvino: " in caplog.text
    fast = Segmenter.open(exported_bundle, precision="fast")
    assert (fast.backend_name, fast.precision) == ("onnxruntime", "int8")


def test_without_a_cache_folder_it_measures_and_remembers_nothing(
    exported_bundle: Path,
    tmp_path: Path,
    clock: Clock,
    unproven: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("T2D_CACHE_DIR", str(tmp_path / "file" / "cache"))
    measured(exported_bundle)
    assert "remembered in" not in capsys.readouterr().out
    assert taken(exported_bundle) == registry.auto_order()[0]


def test_doctor_prints_a_table_the_choices_and_how_to_forget_them(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, usual: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.set(**{f"{OTHER[usual]}_fp32": 25.0})
    measured(exported_bundle)
    lines = capsys.readouterr().out.splitlines()
    file = memory(cache)
    assert f"  {f'{OTHER[usual]} fp32':<20} {'25':>11}  2.00" in lines
    assert f"  {f'{usual} fp32':<20} {'50':>11}  1.00" in lines
    assert any(line.startswith(f"--backend auto --precision fp32  takes {OTHER[usual]}, as measured") for line in lines)
    assert any(line.startswith(f"remembered in {file}; remove the file to forget it") for line in lines)

    def says(command: list[str]) -> str:
        assert main(command) == 0
        return capsys.readouterr().out

    assert f"forget it by removing {file}" in says(["info", str(exported_bundle)])
    assert f"engine speeds: 1 remembered in {file.parent}; remove a file to forget it" in says(["doctor"])
    file.unlink()
    assert f"auto takes      {usual} in fp32, by rule" in says(["info", str(exported_bundle)])
    assert "engine speeds: none measured" in says(["doctor"])


@pytest.mark.parametrize(("ms", "rounds"), [(1.0, 21), (500.0, 9), (4000.0, 2)])
def test_doctor_times_a_pair_for_ten_seconds_at_most(
    exported_bundle: Path, cache: Path, clock: Clock, unproven: None, ms: float, rounds: int
) -> None:
    """Two rounds are the least, however slow the machine."""
    clock.set(fp32=ms, fp16=ms, bf16=ms, int8=ms)
    measured(exported_bundle)
    first, *others = clock.rounds
    assert first == speeds.ROUNDS
    assert others == [1, rounds] * (len(others) // 2)


def test_doctor_s_status_is_one_where_an_engine_fails_its_selftest(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(registry, "AUTOMATIC", ("onnxruntime",))
    disturb(monkeypatch, "patch_tokens", 0.05)  # int8 may be as wrong as that
    assert main(["doctor", "--measure", str(exported_bundle)]) == 1
    said = capsys.readouterr().out
    assert "onnxruntime fp32     left out: ONNX Runtime" in said
    assert "--backend auto --precision fast  takes onnxruntime int8" in said
    for verdict in (cache / "verdicts").iterdir():
        verdict.unlink()
    disturb(monkeypatch, "patch_tokens", 0.5)
    assert main(["doctor", "--measure", str(exported_bundle)]) == 2
    assert "no precision passes its self-test here" in capsys.readouterr().err


def test_threads_without_measure_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--threads", "2"]) == 2
    assert "--threads has no effect without --measure" in capsys.readouterr().err


def test_fast_is_the_fastest_that_passes_and_is_measured_once(
    exported_bundle: Path, cache: Path, runs: list[str], clock: Clock
) -> None:
    assert open_here(exported_bundle, precision="fast").precision == "int8"
    assert runs == ["fp32", "fp16", "int8"]
    clock.set(int8=99.0)
    assert open_here(exported_bundle, precision="fast").precision == "int8"
    assert runs == ["fp32", "fp16", "int8"]
    assert open_here(exported_bundle, precision="fast", num_threads=64).precision == "fp16"


def test_fast_leaves_out_what_fails(
    exported_bundle: Path, cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.set(int8=99.0)
    disturb(monkeypatch, "patch_tokens", 0.05)
    assert open_here(exported_bundle, precision="fast").precision == "int8"


def test_fast_proves_a_pair_that_another_bundle_of_the_same_encoder_measured(
    exported_bundle: Path, cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_here(exported_bundle, precision="fast")
    for verdict in (cache / "verdicts").iterdir():
        verdict.unlink()
    with monkeypatch.context() as patch:
        patch.delattr(speeds, "in_turn")
        assert open_here(exported_bundle, precision="fast").precision == "int8"
    for verdict in (cache / "verdicts").iterdir():
        verdict.unlink()
    disturb(monkeypatch, "cls_attention", 0.2)
    with pytest.raises(SelfTestError, match="no precision passes its self-test here"):
        open_here(exported_bundle, precision="fast")


def test_fast_without_any_precision_that_passes_is_an_error(
    exported_bundle: Path, cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, "patch_tokens", 0.5)
    with pytest.raises(SelfTestError, match="no precision passes its self-test here: tried onnxruntime fp32"):
        open_here(exported_bundle, precision="fast")
