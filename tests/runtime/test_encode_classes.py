"""`Segmenter.encode_classes`: what it takes, remembers, and does for several threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter, encoders
from t2d_runtime.errors import OptionError


def test_words_seen_before_are_not_encoded_again(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    first = segmenter.encode_classes(["boat", "cloud"])
    monkeypatch.setattr(segmenter.encoders, "run_text_encoder", lambda ids: pytest.fail("the text encoder ran again"))
    again = segmenter.encode_classes(["cloud", "boat"])
    np.testing.assert_array_equal(first.vectors[::-1], again.vectors)


def test_the_memory_of_words_is_bounded(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "CACHED_CLASSES", 3)
    monkeypatch.setattr(segmenter.encoders, "_cached_classes", {})
    first = segmenter.encode_classes(["boat", "cloud"])
    again = segmenter.encode_classes(["boat", "wave", "rock"])  # with "cloud" they would be four
    np.testing.assert_allclose(again.vectors[0], first.vectors[0], atol=1e-6, rtol=0)
    assert len(segmenter.encoders._cached_classes) <= 3
    assert len(segmenter.encode_classes(["pier", "buoy", "sail", "mast"])) == 4
    assert len(segmenter.encoders._cached_classes) == 3
    assert all(vector.base is None for vector in segmenter.encoders._cached_classes.values())


@pytest.mark.parametrize("prompts", [None, 3, b"a {}", [["a {}"]], ["a"], []])
def test_prompts_of_another_kind_are_named(segmenter: Segmenter, prompts: Any) -> None:
    with pytest.raises(OptionError, match="prompt template"):
        segmenter.encode_classes(["sky"], prompts=prompts)


def test_names_and_templates_come_from_anything_that_can_be_gone_through(segmenter: Segmenter) -> None:
    expected = segmenter.encode_classes(["sky", "sea"], ["a {}"])
    given: Any = (
        ("sky", "sea"),
        (name for name in ("sky", "sea")),
        np.array(["sky", "sea"]),
        {"sky": "sky", "sea": ["sea"]},
    )
    for names in given:
        got = segmenter.encode_classes(names, (template for template in ["a {}"]))
        assert got.names == ("sky", "sea")
        assert {type(name) for name in got.names} == {str}
        np.testing.assert_array_equal(got.vectors, expected.vectors)


def test_progress_counts_all_classes_and_may_encode_words_itself(segmenter: Segmenter) -> None:
    segmenter.encode_classes(["a", "b"])
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        segmenter.encode_classes(["word of the callback"])

    segmenter.encode_classes(["a", "b", "c", "d"], progress=progress)
    assert seen == [(4, 4)]


def test_known_words_do_not_wait_for_the_new_ones_of_another_thread(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = segmenter.encode_classes(["boat"])
    entered, go_on = threading.Event(), threading.Event()
    right = segmenter.encoders.run_text_encoder

    def held(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        entered.set()
        assert go_on.wait(300)
        return right(ids)

    monkeypatch.setattr(segmenter.encoders, "run_text_encoder", held)
    with ThreadPoolExecutor(2) as pool:
        new = pool.submit(segmenter.encode_classes, ["a word that nobody has asked for"])
        assert entered.wait(300)
        again = pool.submit(segmenter.encode_classes, ["boat"]).result(timeout=300)
        assert not new.done()
        go_on.set()
        new.result(timeout=300)
    np.testing.assert_array_equal(again.vectors, known.vectors)
