"""A real Triton: the Segmenter's labels over both protocols; wrong requests are errors, and the server lives."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from t2d_runtime import Segmenter

WORDS = ["sky", "grass", "person", "road"]


def of_text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def of_json(content: Any) -> NDArray[np.uint8]:
    return of_text(json.dumps(content))


def encoded(picture: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"background": True, "threshold": 0.4},
        {"background": True, "cleaning": "paper", "cleaning_weight": 0.5},
        {"refine": True, "window": "whole", "cleaning": False},
    ],
    ids=str,
)
def test_the_labels_are_the_segmenters(
    client: Any, segmenter: Segmenter, picture: NDArray[np.uint8], options: dict[str, Any]
) -> None:
    expected = segmenter.segment(picture, WORDS, **options)
    found = client.infer({"image": picture, "words_json": of_json(WORDS)}, **options)["label_map"]
    assert len(np.unique(expected.label_map)) > 1
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected.label_map)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_file_names_and_run_length_codes(
    client: Any, segmenter: Segmenter, picture: NDArray[np.uint8], kind: str
) -> None:
    content = encoded(picture, kind)
    words = {"Himmel": ["sky", "blue sky"], "Straße": "road"}
    classes = segmenter.encode_classes(words, negatives=["wall"])
    expected = segmenter.segment(content.tobytes(), classes)
    given = {"encoded_image": content, "words_json": of_json({"classes": words, "negatives": ["wall"]})}
    found = client.infer(given, ("label_map", "class_names", "rle"))
    assert np.array_equal(found["label_map"], expected.label_map)
    assert tuple(json.loads(found["class_names"].tobytes())) == expected.class_names == ("background", *words)
    assert json.loads(found["rle"].tobytes()) == expected.rle()


def test_more_labels_than_a_byte_holds(client: Any, segmenter: Segmenter, picture: NDArray[np.uint8]) -> None:
    # The model does not know the first words and gives many of them one vector, so that rounding chooses among these.
    words = [*(f"thing {number}" for number in range(260)), *WORDS]
    expected = segmenter.segment(picture, segmenter.encode_classes(words, ["{}"]), keep_scores=True)
    assert expected.scores is not None
    second, best = np.partition(expected.scores, -2, axis=0)[-2:]
    certain = best - second > 2e-5
    assert expected.label_map[certain].max() > 255
    found = client.infer({"image": picture, "words_json": of_json(words)}, prompts='["{}"]')["label_map"]
    assert np.array_equal(found[certain], expected.label_map[certain])


def test_clients_at_the_same_time(client: Any, segmenter: Segmenter, picture: NDArray[np.uint8]) -> None:
    pictures = [np.ascontiguousarray(np.roll(picture, 11 * index, axis=1)[: 60 + index]) for index in range(12)]
    lists = [WORDS[: 2 + index % 3] for index in range(12)]
    expected = [segmenter.segment(image, words).label_map for image, words in zip(pictures, lists, strict=True)]

    def ask(index: int) -> NDArray[Any]:
        given = {"image": pictures[index], "words_json": of_json(lists[index])}
        labels: NDArray[Any] = client.infer(given)["label_map"]
        return labels

    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(ask, range(12)), expected, strict=True):
            assert np.array_equal(found, wanted)


SMALL = np.zeros((20, 30, 3), np.uint8)

WRONG: dict[str, tuple[dict[str, NDArray[Any]], dict[str, Any], str]] = {
    "no words": ({"image": SMALL}, {}, "no words; expected either words"),
    "no picture": ({"words_json": of_json(WORDS)}, {}, "no picture; expected either image"),
    "two pictures": (
        {"image": SMALL, "encoded_image": SMALL.ravel(), "words_json": of_json(WORDS)},
        {},
        "image and encoded_image; expected either",
    ),
    "no bytes": ({"encoded_image": SMALL.ravel()[:0], "words_json": of_json(WORDS)}, {}, ""),
    "a broken picture": (
        {"encoded_image": of_text("\x89PNG no picture"), "words_json": of_json(WORDS)},
        {},
        "the image data",
    ),
    "another dtype": ({"image": SMALL.astype(np.float32), "words_json": of_json(WORDS)}, {}, "data-type is"),
    "another shape": ({"image": SMALL[..., :2], "words_json": of_json(WORDS)}, {}, "unexpected shape"),
    "no pixels": ({"image": SMALL[:0], "words_json": of_json(WORDS)}, {}, "expected an RGB array"),
    "an unknown input": ({"image": SMALL, "classes": of_json(WORDS)}, {}, "unexpected inference input"),
    "no JSON": ({"image": SMALL, "words_json": of_text("[sky")}, {}, "not JSON"),
    "plain text": ({"image": SMALL, "words_json": of_text("sky, sea")}, {}, "expected a list"),
    "no UTF-8": ({"image": SMALL, "words_json": np.array([91, 255], np.uint8)}, {}, "not UTF-8"),
    "no class": ({"image": SMALL, "words_json": of_json([])}, {}, "class"),
    "too many": (
        {"image": SMALL, "words_json": of_json([f"thing {number}" for number in range(2001)])},
        {},
        "2001 phrases, expected at most 2000",
    ),
    "a blank class": ({"image": SMALL, "words_json": of_json(["sky", " "])}, {}, "blank"),
    "a negative threshold": (
        {"image": SMALL, "words_json": of_json(WORDS)},
        {"background": True, "threshold": -0.5},
        "threshold is -0.5, expected a number from 0 to 1",
    ),
    "an option without effect": (
        {"image": SMALL, "words_json": of_json(WORDS)},
        {"threshold": 0.5},
        "threshold has no effect without background=True",
    ),
    "an unknown option": ({"image": SMALL, "words_json": of_json(WORDS)}, {"blur": True}, "unknown parameters"),
    "a flag of text": ({"image": SMALL, "words_json": of_json(WORDS)}, {"refine": "yes"}, "refine is 'yes'"),
    "an unknown window": ({"image": SMALL, "words_json": of_json(WORDS)}, {"window": "tiny"}, "window is 'tiny'"),
    "an unknown prompt set": ({"image": SMALL, "words_json": of_json(WORDS)}, {"prompts": "none"}, "prompt set"),
    "prompts of numbers": ({"image": SMALL, "words_json": of_json(WORDS)}, {"prompts": "[1]"}, "prompt"),
    # This server's Python backend is older than NumPy 2, which these tests run with.
    "strings": ({"image": SMALL, "words": np.array([b"sky", b"sea"], object)}, {}, "words_json"),
    "many strings": ({"image": SMALL, "words": np.array([b"sky"] * 1000, object)}, {}, "words_json"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_request_is_an_error_and_the_server_lives(client: Any, segmenter: Segmenter, wrong: str) -> None:
    inputs, options, message = WRONG[wrong]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(inputs, **options)
    told = str(caught.value)
    assert message in told
    assert "Traceback" not in told
    assert "\n" not in told.strip()
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    labels = client.infer({"image": SMALL, "words_json": of_json(WORDS)})["label_map"]
    assert np.array_equal(labels, segmenter.segment(SMALL, WORDS).label_map)


def test_the_log_holds_no_traceback(server: Any) -> None:
    log = server.log.read_text(errors="replace")
    assert "successfully loaded 't2d'" in log
    assert "Traceback" not in log
    assert "Exception ignored" not in log
