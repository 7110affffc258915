"""Weights as they lie in their files: the session's setting, a proof of its own, the same masks."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter
from t2d_runtime.cli import main
from t2d_runtime.errors import OptionError

IMAGE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
PREPACKING = "session.disable_prepacking"


def opened(bundle: Path, **options: Any) -> Segmenter:
    return Segmenter.open(bundle, backend="onnxruntime", num_threads=1, **options)


def sessions(segmenter: Segmenter) -> list[Any]:
    segmenter.encode_classes(["a word that the self-test lacks"])
    encoders: Any = segmenter.encoders
    return [encoders._image_encoder._session, encoders._text_encoder._session]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_session_arranges_weights(exported_bundle: Path, precision: str) -> None:
    for session in sessions(opened(exported_bundle, precision=precision, prepack_weights=False)):
        assert session.get_session_options().get_session_config_entry(PREPACKING) == "1"


def test_sessions_arrange_weights_unless_told_otherwise(exported_bundle: Path) -> None:
    for session in sessions(opened(exported_bundle)):
        with pytest.raises(RuntimeError, match="does not have configuration with key"):
            session.get_session_options().get_session_config_entry(PREPACKING)


def test_the_masks_are_the_same(exported_bundle: Path) -> None:
    words = ["sky", "grass", "person"]
    usual, other = opened(exported_bundle), opened(exported_bundle, prepack_weights=False)
    a, b = (each.segment(IMAGE, words, keep_scores=True) for each in (usual, other))
    assert a.scores is not None
    assert b.scores is not None
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    lead = np.sort(a.scores, axis=0)[-1] - np.sort(a.scores, axis=0)[-2]
    assert np.array_equal(a.label_map[lead > 2e-5], b.label_map[lead > 2e-5])


def test_it_proves_itself(exported_bundle: Path, cache: Path, runs: list[str]) -> None:
    opened(exported_bundle)
    for _ in range(2):
        opened(exported_bundle, prepack_weights=False)
    assert runs == ["fp32", "fp32"]


def test_copies_open_in_the_same_way(exported_bundle: Path) -> None:
    segmenter = opened(exported_bundle, prepack_weights=False)
    for other in (pickle.loads(pickle.dumps(segmenter)), copy.copy(segmenter)):
        assert not other.encoders.backend.prepack_weights
        assert other.engine_description == segmenter.engine_description


def test_openvino_opens_as_always(exported_bundle: Path) -> None:
    a, b = (Segmenter.open(exported_bundle, backend="openvino", prepack_weights=kept) for kept in (True, False))
    assert a.engine_description == b.engine_description
    assert np.array_equal(a.segment(IMAGE, ["sky", "grass"]).label_map, b.segment(IMAGE, ["sky", "grass"]).label_map)


def test_anything_but_a_bool_is_refused(exported_bundle: Path) -> None:
    with pytest.raises(OptionError, match="prepack_weights is 'no', expected True or False"):
        opened(exported_bundle, prepack_weights="no")


def test_the_command_line_says_which_engine_runs(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, expected in ([], False), (["--no-prepack"], True):
        assert main(["selftest", str(exported_bundle), "--backend", "onnxruntime", *options]) == 0
        assert ("ONNX Runtime without prepacking" in capsys.readouterr().out) == expected
