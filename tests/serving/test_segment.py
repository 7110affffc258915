"""Answers of the service are the Segmenter's, in each form, however a request is written."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime import PamrSettings, Segmentation, Segmenter
from t2d_runtime.masks.postprocess import Labelling, label_map_of

from .conftest import TIMEOUT_S, Serve

WORDS = ["sky", "sea", "sand"]


def expected(segmenter: Segmenter, pixels: NDArray[np.uint8], **options: Any) -> Segmentation:
    return segmenter.segment(pixels, WORDS, **options)


def labels_of(answer: httpx.Response) -> NDArray[Any]:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_each_form_of_an_answer(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    result = expected(segmenter, pixels)

    def ask(**data: str) -> httpx.Response:
        return client.post("/segment", files={"image": photo}, data={"classes": "sky,sea,sand", **data})

    for name in ("png", "grey"):
        np.testing.assert_array_equal(labels_of(ask(format=name)), result.label_map)
    assert Image.open(io.BytesIO(ask(format="png").content)).mode == "P"
    np.testing.assert_array_equal(labels_of(ask(format="overlay")), np.asarray(result.overlay()))
    np.testing.assert_array_equal(
        labels_of(ask(format="overlay", legend="false")), np.asarray(result.overlay(legend=False))
    )
    with np.load(io.BytesIO(ask(format="npz").content)) as arrays:
        np.testing.assert_array_equal(arrays["label_map"], result.label_map)
        assert list(arrays["class_names"]) == WORDS
    answer = ask()
    assert answer.headers["content-type"] == "application/json"
    assert {label["name"]: label["rle"] for label in ask(format="rle").json()["labels"]} == result.rle()
    for label in ask(format="polygons").json()["labels"]:
        shapes = [[part["exterior"], *part["holes"]] for part in label["polygons"]]
        expected_shapes = [[part.exterior, *part.holes] for part in result.polygons(label["name"])]
        assert shapes == [[points.tolist() for points in part] for part in expected_shapes]
        assert shapes
    assert answer.json()["labels"] == result.summary()["labels"]
    assert {"queue", "words", "read", "encode", "segment", "answer"} == {
        part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")
    }


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png", "image/png"),
        ("*/*", "application/json"),
        ("text/html, image/*;q=0.8, */*;q=0.1", "image/png"),
        ("application/x-npz", "application/x-npz"),
        ("image/png;q=0.1, application/json", "application/json"),
    ],
)
def test_the_accept_header_chooses(client: httpx.Client, photo: bytes, accept: str, kind: str) -> None:
    answer = client.post(
        "/segment", params={"classes": "sky"}, content=photo, headers={"accept": accept, "content-type": "image/png"}
    )
    assert answer.headers["content-type"] == kind


def test_nothing_acceptable_is_told(client: httpx.Client, photo: bytes) -> None:
    answer = client.post("/segment", files={"image": photo}, data={"classes": "sky"}, headers={"accept": "video/mp4"})
    assert answer.status_code == 406
    assert "expected one of ['application/json'" in answer.json()["detail"]


def test_three_ways_to_send_a_picture(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    options = {"background": True, "threshold": 0.52, "refine": True, "window": "whole", "cleaning": "paper"}
    result = expected(segmenter, pixels, **options)
    texts = {name: json.dumps(value).strip('"') for name, value in options.items()}
    words = {"classes": "sky, sea, sand", "format": "grey"}
    in_json = {"image": base64.b64encode(photo).decode(), "classes": WORDS, "format": "grey", **options}
    for answer in (
        client.post("/segment", files={"image": photo}, data={**words, **texts}),
        client.post("/segment", params={**words, **texts}, content=photo, headers={"content-type": "image/png"}),
        client.post("/segment", json=in_json),
    ):
        np.testing.assert_array_equal(labels_of(answer), result.label_map)


def test_synonyms_negatives_thresholds_and_prompts(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    phrases, negatives, thresholds = {"person": ["man", "woman"], "sky": "sky"}, ["wall"], {"sky": 0.5}
    for prompts in ("simple", ["a drawing of a {}."]):
        classes = segmenter.encode_classes(phrases, prompts, negatives=negatives, thresholds=thresholds)
        result = segmenter.segment(pixels, classes, background=True)
        body: dict[str, Any] = {"image": base64.b64encode(photo).decode(), "prompts": prompts, "background": True}
        apart = {"classes": phrases, "negatives": negatives, "thresholds": thresholds}
        for given in (apart, {"classes": apart}):
            answer = client.post("/segment", json={**body, **given, "format": "grey"})
            np.testing.assert_array_equal(labels_of(answer), result.label_map)
        form = {"classes": json.dumps(phrases), "negatives": "wall", "thresholds": json.dumps(thresholds)}
        form |= {"prompts": prompts if isinstance(prompts, str) else json.dumps(prompts)}
        answer = client.post("/segment", files={"image": photo}, data={**form, "background": "true", "format": "grey"})
        np.testing.assert_array_equal(labels_of(answer), result.label_map)


def test_confidence_is_told_where_it_is_asked_for(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    result = expected(segmenter, pixels, keep_confidence=True)
    means = [label["mean_score"] for label in result.summary()["labels"]]

    def ask(**data: str) -> httpx.Response:
        return client.post("/segment", files={"image": photo}, data={"classes": "sky,sea,sand", **data})

    for name in ("json", "rle", "polygons"):
        labels = ask(format=name, confidence="true").json()["labels"]
        assert [label["mean_score"] for label in labels] == means
        assert not any("mean_score" in label for label in ask(format=name, confidence="false").json()["labels"])
    with np.load(io.BytesIO(ask(format="npz", confidence="true").content)) as arrays:
        np.testing.assert_array_equal(arrays["confidence"], result.confidence)


def test_cleaning_may_be_off(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    """As on the command line; with background it would be on."""
    result = expected(segmenter, pixels, background=True, cleaning=False)
    assert not np.array_equal(result.label_map, expected(segmenter, pixels, background=True).label_map)
    form = {"classes": "sky,sea,sand", "background": "true", "cleaning": "off", "format": "grey"}
    answer = client.post("/segment", files={"image": photo}, data=form)
    np.testing.assert_array_equal(labels_of(answer), result.label_map)


def test_pamr_with_other_settings(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    result = expected(segmenter, pixels, refine=PamrSettings((1, 3), 2))
    form = {"classes": "sky,sea,sand", "format": "grey", "refine": '{"iterations": 2, "dilations": [1, 3]}'}
    np.testing.assert_array_equal(
        labels_of(client.post("/segment", files={"image": photo}, data=form)), result.label_map
    )


class CountedMasks:
    """The host's masks in place of a GPU's."""

    def __init__(self) -> None:
        self.made = 0

    def label_map_of(self, *given: Any, **options: Any) -> Labelling:
        self.made += 1
        return label_map_of(*given, **options)


def test_masks_of_a_device(serve: Serve, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes) -> None:
    masks: Any = CountedMasks()
    asked: dict[str, Any] = {"files": {"image": photo}, "data": {"classes": "sky,sea,sand", "format": "png"}}
    with serve(of=Segmenter(segmenter.encoders, masks)) as running:
        warm = masks.made
        answer = httpx.post(f"{running.url}segment", timeout=TIMEOUT_S, **asked)
    np.testing.assert_array_equal(labels_of(answer), expected(segmenter, pixels).label_map)
    assert masks.made == warm + 1


def test_a_picture_is_encoded_once_and_asked_again(
    client: httpx.Client, segmenter: Segmenter, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    kept = client.post("/images", files={"image": photo}, data={"window": "whole"})
    assert kept.status_code == 201
    content = kept.json()
    assert (content["height"], content["width"], content["windows"]) == (60, 90, 1)
    assert len(content["id"]) == 32
    address = f"/images/{content['id']}/segment"
    for background in (False, True):
        answer = client.post(address, json={"classes": WORDS, "background": background, "format": "grey"})
        result = expected(segmenter, pixels, background=background, window="whole")
        np.testing.assert_array_equal(labels_of(answer), result.label_map)
        assert "encode" not in answer.headers["server-timing"]
    assert client.post(address, json={"classes": WORDS, "window": "slide"}).status_code == 422
    assert client.delete(f"/images/{content['id']}").status_code == 204
    for gone in (client.post(address, json={"classes": WORDS}), client.delete(f"/images/{content['id']}")):
        assert gone.status_code == 404
        assert gone.json()["detail"].startswith("no picture has this id")


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"classes": None}, 422, "classes are missing; expected words, such as classes=sky,sea"),
        ({"classes": "sky,sky"}, 422, "class names 'sky' and 'sky' are the same; give each one once"),
        ({"classes": "sky;sea"}, 422, "hold semicolons; separate words by commas: sky,sea"),
        ({"classes": [1]}, 422, "class name 0 is 1, expected text"),
        ({"classes": [f"thing {i}" for i in range(201)]}, 422, "classes has 201 entries, expected at most 200"),
        ({"classes": {"a": ["b"] * 201}}, 422, "entries, expected at most 200"),
        ({"classes": ",".join(f"thing {i}" for i in range(201))}, 422, "201 phrases, expected at most 200"),
        ({"classes": "x" * 100_001}, 422, "'classes' has 100001 characters"),
        ({"threshold": 0.5}, 422, "threshold has no effect without background=True"),
        ({"background": "yes"}, 422, 'background is "yes", expected true or false'),
        ({"background": 1}, 422, "background is 1, expected true or false"),
        ({"cleaning": "none"}, 422, 'cleaning is "none", expected true, false, official or paper; off is false'),
        ({"cleaning": [1]}, 422, "cleaning is [1], expected true"),
        ({"refine": "yes"}, 422, 'refine is "yes", expected true, false, or an object'),
        ({"confidence": "yes"}, 422, 'confidence is "yes", expected true or false'),
        (
            {"confidence": True, "format": "png"},
            422,
            "confidence has no effect with format=png, only with json, rle, polygons, npz; leave it out",
        ),
        ({"background": True, "threshold": 2}, 422, "threshold is 2, expected a number from 0 to 1"),
        ({"refine": {"iterations": 1000}}, 422, "iterations (1 to 50)"),
        ({"refine": {"steps": 3}}, 422, "expected true, false, or an object"),
        ({"window": "other"}, 422, "window is 'other', expected one of"),
        ({"window": 3}, 422, "window is 3, expected"),
        ({"prompts": "other"}, 422, "unknown prompt set 'other'"),
        ({"prompts": ["a {}"] * 101}, 422, "101 prompt templates, expected at most 100"),
        ({"prompts": ["no place"]}, 422, "has no place for the name"),
        ({"format": "bmp"}, 422, "format is 'bmp', expected one of"),
        ({"legend": True}, 422, "legend has no effect without format=overlay"),
        ({"keep_scores": True}, 422, "unknown names ['keep_scores'], expected some of"),
        ({"negatives": "sky"}, 422, "'sky' is a negative and a phrase of class 'sky'"),
        ({"image": None}, 422, "image is missing"),
        ({"image": "http://example.org/photo.jpg"}, 422, "image is no base64"),
        ({"image": "file:///etc/passwd"}, 422, "image is no base64"),
        ({"image": ""}, 415, "is empty; expected an image"),
        ({"image": base64.b64encode(b"no picture").decode()}, 415, "the image data is not an image"),
    ],
)
def test_what_cannot_be_used_is_told(
    client: httpx.Client, photo: bytes, changes: dict[str, Any], status: int, detail: str
) -> None:
    body = {"image": base64.b64encode(photo).decode(), "classes": "sky,sea", **changes}
    answer = client.post("/segment", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert detail in problem["detail"]
    assert problem["status"] == status
    assert "\n" not in problem["detail"]
    assert "/" not in problem["detail"].replace("image/", "")


def test_facts_about_the_service(client: httpx.Client, segmenter: Segmenter) -> None:
    info = client.get("/info").json()
    assert info["backend"] == "onnxruntime"
    assert info["defaults"]["threshold"] == segmenter.manifest.defaults.threshold
    assert info["prompt_sets"]["simple"] == 1
    limits = info["limits"]
    assert (limits["phrases"], limits["scores"], limits["upload_s"], limits["head_s"]) == (200, 4_000_000_000, 20, 10)
    assert limits["scans"] == 100
    assert limits["refine"] == {"iterations": 50, "dilations": 12, "dilation": 64}
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/segment")
    figures = client.get("/metrics").text
    assert 't2d_requests_total{route="/segment",status="422"}' in figures
    assert "t2d_queue_places 64.0" in figures
    assert "process_resident_memory_bytes" in figures
    documented = client.get("/openapi.json").json()
    assert {"/segment", "/images", "/images/{image_id}", "/images/{image_id}/segment", "/info"} <= set(
        documented["paths"]
    )
    assert client.get("/nothing").status_code == 404
    assert client.get("/segment").status_code == 405
    assert client.get("/segment").headers["allow"] == "POST"
