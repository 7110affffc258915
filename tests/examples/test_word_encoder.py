"""The text encoder in JavaScript: Python's vectors, words that are known, files that are kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.bundle.files import TEXT_ENCODER, TOKENIZER
from t2d_runtime.proof.parity import GATES, TOKEN_TOLERANCE
from tests.examples.conftest import HERE, Serve, keep_weights_apart

SCRIPT = HERE / "encode.mjs"

LIBRARY = HERE / "node_modules" / "@huggingface" / "tokenizers" / "dist" / "tokenizers.min.mjs"

WORDS = ["sky", "Traffic  Light", "a small boat on the sea", "don’t walk", "猫", "🐈‍⬛ cat", "tree " * 80, "umbrella"]
PROMPTS: list[str | list[str] | None] = [None, "simple", "identity", ["a {}.", "the {} beside another {}, far away"]]

Run = Callable[[str, object], Any]


@pytest.fixture(scope="module")
def run(node: str, fused_bundle: Path) -> Run:
    """Run a step of the script."""

    def run_step(step: str, given: object = None) -> Any:
        command = [node, SCRIPT, step, fused_bundle]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_step


def call(words: Sequence[Any], prompts: Any) -> dict[str, Any]:
    return {"words": words} | ({} if prompts is None else {"prompts": prompts})


def vectors_of(segmenter: Segmenter, words: Sequence[str], prompts: str | list[str] | None) -> NDArray[np.float32]:
    return segmenter.encode_classes(words, "subset" if prompts is None else prompts).vectors


@pytest.mark.parametrize("precision", ["fp32", None])
def test_vectors_are_those_of_python(run: Run, segmenter: Segmenter, precision: str | None) -> None:
    calls = [call(WORDS, prompts) for prompts in PROMPTS]
    found = run("encode", {"calls": calls} | ({} if precision is None else {"precision": precision}))
    assert found["precision"] == (precision or "int8")
    for prompts, result in zip(PROMPTS, found["results"], strict=True):
        expected = vectors_of(segmenter, WORDS, prompts)
        got = np.array(result["vectors"], np.float32).reshape(expected.shape)
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        if precision == "fp32":
            np.testing.assert_allclose(got, expected, rtol=0, atol=TOKEN_TOLERANCE * np.abs(expected).max())
        else:
            gate = GATES["int8"].relative_frobenius
            assert 0 < np.linalg.norm(got - expected) < gate * np.linalg.norm(expected)
        readings = result["readings"]
        assert [reading["read"] for reading in readings][1:4] == [
            "traffic light",
            "a small boat on the sea",
            "don't walk",
        ]
        assert [reading["repaired"] for reading in readings] == [word == "don’t walk" for word in WORDS]
        assert [reading["cut"] for reading in readings] == [word.startswith("tree") for word in WORDS]


def test_int8_vectors_are_those_of_python_in_int8(run: Run, fused_bundle: Path) -> None:
    python = Segmenter.open(fused_bundle, backend="onnxruntime", precision="int8")
    (result,) = run("encode", {"calls": [{"words": WORDS}]})["results"]
    expected = vectors_of(python, WORDS, None)
    got = np.array(result["vectors"], np.float32).reshape(expected.shape)
    # A sum in another order may round to the next of 255 steps.
    assert np.linalg.norm(got - expected) < 0.1 * GATES["int8"].relative_frobenius * np.linalg.norm(expected)


@pytest.mark.parametrize("options", [{}, {"background": True, "refine": True}])
def test_labels_by_these_words_are_those_of_python(
    run: Run,
    scene: NDArray[np.uint8],
    words: ClassEmbeddings,
    check_labels: Callable[[NDArray[Any], bool, bool], None],
    tmp_path: Path,
    options: dict[str, bool],
) -> None:
    (tmp_path / "scene.raw").write_bytes(scene.tobytes())
    picture = {"picture": str(tmp_path / "scene.raw"), "height": scene.shape[0], "width": scene.shape[1]}
    labels = run("labels", picture | {"words": words.names, "options": options, "precision": "fp32"})
    got = np.array(labels).reshape(scene.shape[:2])
    check_labels(got, options.get("background", False), options.get("refine", False))
    small = np.array(run("labels", picture | {"words": words.names, "options": options, "precision": "int8"}))
    assert GATES["int8"].label_agreement <= (small.reshape(got.shape) == got).mean()


def test_weights_in_a_file_of_their_own(node: str, bundle_copy: Path, segmenter: Segmenter) -> None:
    """As large models have them; their checksum is a part of what vocabularies fit."""
    before = segmenter.vocabulary_digest
    keep_weights_apart(bundle_copy, TEXT_ENCODER)
    python = Segmenter.open(bundle_copy, backend="onnxruntime")
    given = json.dumps({"calls": [{"words": ["sky"]}], "precision": "fp32"})
    done = subprocess.run(
        [node, SCRIPT, "encode", bundle_copy], input=given, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["digest"] == python.vocabulary_digest != before
    expected = vectors_of(segmenter, ["sky"], None)
    np.testing.assert_array_equal(vectors_of(python, ["sky"], None), expected)
    np.testing.assert_allclose(np.array([found["results"][0]["vectors"]]), expected, rtol=0, atol=TOKEN_TOLERANCE)


def test_known_words_are_not_encoded_again(run: Run) -> None:
    many = [f"word {'long ' * (index % 7)}{index}" for index in range(60)]
    found = run("known", {"words": many, "more": ["sky", "sea"]})
    assert 1 < found["runs"] < 20, "words of similar length are encoded together"
    assert found["same"]
    assert found["equal"]
    assert [dims[:2] for dims in found["added"]] == [[2, 7]], "only the new ones"
    assert sum(dims[0] for dims in found["others"]) == 60, "other prompts give other vectors"
    assert {dims[1] for dims in found["others"]} == {1}
    assert found["released"] == 1


def test_loading_tells_how_much_has_come(run: Run, fused_bundle: Path) -> None:
    found = run("loading", None)
    paths = [TOKENIZER, f"precisions/int8/{TEXT_ENCODER}"]
    assert sorted(found["read"]) == sorted(paths)
    total = sum((fused_bundle / path).stat().st_size for path in paths)
    assert {now["total"] for now in found["seen"]} == {total}
    loaded = [now["loaded"] for now in found["seen"]]
    assert loaded == sorted(loaded)
    assert loaded[-1] == total


def test_loading_and_encoding_are_given_up(run: Run) -> None:
    assert run("cancelled", None) == {
        "loading": "AbortError: The operation was aborted",
        "encoding": "DOMException: This operation was aborted",
        "after": "cat",
        "open": 0,
    }


def test_what_is_refused(run: Run) -> None:
    refused: list[tuple[list[Any], Any, str]] = [
        ([], None, "expected at least one word, got none"),
        (["cat", " \n"], None, "“ \n” is blank, expected a word"),
        (["&nbsp;"], None, "“&nbsp;” is blank, expected a word"),
        ([3], None, "a word is 3, expected text"),
        (["x" * 1001], None, f"“{'x' * 40}…” has 1001 letters, expected at most 1000"),
        (
            ["zero\u200bwidth"],
            None,
            "“zero\u200bwidth” has a sign that is not seen (U+200B) but would be read; leave it out",
        ),
        (["don't", "Don’t"], None, "“don't” and “Don’t” are the same; give each one once"),
        (
            ["cat"],
            "best",
            "no prompt set is called best, expected one of full, identity, maskclip, simple, subset, or a list of "
            "templates",
        ),
        (["cat"], [], "expected one or more prompt templates, got none"),
        (["cat"], ["a photo"], "the prompt template “a photo” has no place for the word; write it as {}"),
    ]
    calls = [call(words, prompts) for words, prompts, _ in refused]
    *messages, last = run("refused", {"calls": calls, "precision": "fp8"})
    assert messages == [f"InputError: {message}" for _, _, message in refused]
    assert last == f"InputError: the bundle has no precisions/fp8/{TEXT_ENCODER}; export it with that precision"


def test_files_are_kept_by_their_checksums(run: Run, fused_bundle: Path) -> None:
    found = run("cache", None)
    content = (fused_bundle / TOKENIZER).read_bytes()
    assert {found["first"], found["second"], found["damaged"]} == {hashlib.sha256(content).hexdigest()}
    assert found["progress"] == len(content)
    assert found["reads"] == 1, "the second time from the cache"
    assert found["readsAfterDamage"] == 2, "a damaged copy is not used"
    assert found["key"].endswith(f"/{TOKENIZER}?sha256={hashlib.sha256(content).hexdigest()}")
    tokenizer, other = found["keys"]
    assert tokenizer == found["key"], "this version takes the place of an older one"
    assert "/selftest.npz?sha256=" in other
    assert found["left"] == 0
    assert found["withoutRoom"] == len(content)
    assert found["told"] == [
        f"the browser keeps no copy of {TOKENIZER}: Quota exceeded.",
        f"the browser keeps no copy of {TOKENIZER}: Access is denied.",
    ]
    assert found["cancelled"] == "DOMException: This operation was aborted"


IN_A_PAGE = """async (words) => {
    const load = (address) => import(new URL(address, location.href));
    const ort = await load("onnxruntime/ort.wasm.bundle.min.mjs");
    const [{ Bundle }, { WordEncoder }] = [await load("t2d/bundle.js"), await load("t2d/words.js")];
    ort.env.wasm.numThreads = 2;
    const told = [];
    const options = { ort, tokenizers: await load("tokenizers.mjs"), uncached: (reason) => told.push(reason) };
    const encoder = await WordEncoder.open(await Bundle.open(new URL("bundle/", location.href)), options);
    const { vectors } = await encoder.encode(words);
    await encoder.close();
    return { vectors: [...vectors], isolated: crossOriginIsolated, told };
}"""


def test_a_browser_keeps_the_files_for_the_next_visit(
    browser: Browser, serve: Serve, fused_bundle: Path, segmenter: Segmenter
) -> None:
    expected = vectors_of(segmenter, WORDS, None)
    with serve(fused_bundle) as address:
        context = browser.new_context(service_workers="block")
        context.route("**/tokenizers.mjs", lambda route: route.fulfill(path=LIBRARY, content_type="text/javascript"))
        asked: list[list[str]] = []
        for _ in range(2):
            page = context.new_page()
            paths: list[str] = []
            asked.append(paths)
            page.on("request", lambda request, paths=paths: paths.append(request.url.removeprefix(f"{address}bundle/")))
            page.goto(f"{address}style.css")
            found = page.evaluate(IN_A_PAGE, WORDS)
            page.close()
            assert found["isolated"]
            assert found["told"] == []
            got = np.array(found["vectors"], np.float32).reshape(expected.shape)
            assert 0 < np.linalg.norm(got - expected) < GATES["int8"].relative_frobenius * np.linalg.norm(expected)
        context.close()
    large = {TOKENIZER, f"precisions/int8/{TEXT_ENCODER}"}
    assert large <= set(asked[0])
    assert not large & set(asked[1])
    assert "manifest.json" in asked[1]
