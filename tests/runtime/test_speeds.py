"""How engines are timed in turn, and what a busy machine does to it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest

from t2d_runtime.proof import speeds
from tests.runtime.pretended_speeds import OTHER, Clock, measured, open_here, taken


def test_a_busy_moment_does_not_decide(
    exported_bundle: Path, cache: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A disturbance of one of three rounds brings four more."""
    clock.times["int8"] = itertools.chain([20.0] * 2, [90.0] * 2, itertools.repeat(20.0))
    with caplog.at_level(logging.INFO):
        assert open_here(exported_bundle, precision="fast").precision == "int8"
    assert "onnxruntime int8 2.00 times as fast as onnxruntime fp16" in caplog.text


def test_a_gain_that_is_not_seen_again_does_not_overrule_the_rule(
    exported_bundle: Path,
    cache: Path,
    clock: Clock,
    unproven: None,
    usual: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The machine was busy with something else whenever the rule's engine had its turn, but not later."""
    other = f"{OTHER[usual]} fp32"
    first_times = [50.0] * (1 + speeds.ROUNDS)  # of the rule's engine alone
    clock.times[f"{usual} fp32"] = itertools.chain(
        first_times, [50.0] * (1 + speeds.MOST_ROUNDS), itertools.repeat(30.0)
    )
    clock.times[other] = itertools.repeat(40.0)
    clock.set(fp16=35.0, bf16=90.0, int8=90.0)
    measured(exported_bundle)
    out = capsys.readouterr().out
    assert f"  {other:<20} 66.67 ms a window" in out
    assert f"  {f'{usual} fp16':<20} 58.33 ms a window" in out, "it is timed against the engine that is really the best"
    assert taken(exported_bundle) == usual


def test_engines_are_timed_on_windows(exported_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (open_here(exported_bundle).encoders for _ in range(2))
    real, timed = other.run_image_encoder, []

    def run(crops: Any) -> Any:
        timed.append(crops.shape)
        return real(crops)

    monkeypatch.setattr(other, "run_image_encoder", run)
    assert speeds.times_as_fast(("one", one), ("other", other)) > 0
    assert len(timed) >= speeds.ROUNDS
    assert set(timed) == {(1, *other.manifest.windows.crop_size, 3)}
