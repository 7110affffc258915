"""Pushing a bundle to a hub on loopback, and pulling it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import IMAGE_ENCODER, MANIFEST, SELFTEST, TOKENIZER
from t2d_runtime.bundle.from_hub import pull
from t2d_runtime.cli import main
from t2d_runtime.storage.hub_names import HubName
from tests.hub.fixtures import hub
from tests.hub.server import LoopbackHub

__all__ = ["hub"]  # a fixture

NAME = "me/bundle"


@pytest.fixture
def writable(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    hub.writers = frozenset(["hf_write"])
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    return hub


def files_of(bundle: Path) -> dict[str, bytes]:
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}


def test_there_and_back(writable: LoopbackHub, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = bundle_copy / "engines" / "openvino-0123456789abcdef"
    engine.mkdir(parents=True)
    (engine / "engine.json").write_text("{}")
    assert main(["push", str(bundle_copy), f"hf://{NAME}", "--private"]) == 0
    repository = writable.repositories[NAME]
    assert repository.private
    held = dict(repository.commits[repository.branches["main"]])
    assert f"hf://{NAME}@{repository.branches['main']}" in capsys.readouterr().out
    card = bytes(held.pop("README.md")).decode()  # type: ignore[arg-type]
    assert held.pop(".gitattributes")
    assert held == {name: content for name, content in files_of(bundle_copy).items() if not name.startswith("engines/")}
    int8 = sum(len(content) for name, content in files_of(bundle_copy).items() if name.startswith("precisions/int8/"))
    assert "To install, in a checkout of t2d-runtime: pip install '.[cpu]'; then:" in card
    rows = ("| patch_tokens | passed |", "| fp32 | onnxruntime | passed |", f"| int8 | {int8 / 2**20:.1f} MiB |")
    for part in ("library_name: t2d-runtime", f"t2d segment hf://{NAME}", "backbone.safetensors", *rows):
        assert part in card, part
    Segmenter.open(f"hf://{NAME}", backend="onnxruntime")
    tokens = {(seen.at_storage, seen.token) for seen in writable.seen if seen.method == "PUT"}
    assert tokens == {(True, None)}


def test_a_push_again_sends_nothing_twice_and_removes_what_went(writable: LoopbackHub, bundle_copy: Path) -> None:
    writable.add(NAME, {**files_of(bundle_copy), "precisions/old/image_encoder.onnx": b"1", "README.md": b"older"})
    assert main(["push", str(bundle_copy), f"hf://{NAME}"]) == 0
    uploads = len(writable.requests("PUT"))
    assert main(["push", str(bundle_copy), f"hf://{NAME}"]) == 0
    assert len(writable.requests("PUT")) == uploads
    repository = writable.repositories[NAME]
    held = repository.commits[repository.branches["main"]]
    assert "precisions/old/image_encoder.onnx" not in held
    assert set(held) - {".gitattributes", "README.md"} == set(files_of(bundle_copy))


def test_measured_speeds_stand_in_the_card(
    writable: LoopbackHub, bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "bench.json"
    bench = ["bench", str(bundle_copy), "--backend", "onnxruntime", "--rounds", "1", "--starts", "1"]
    assert main([*bench, "--json", str(figures)]) == 0
    push = ["push", str(bundle_copy), f"hf://{NAME}", "--bench", str(figures)]
    assert main(push) == 0
    repository = writable.repositories[NAME]
    assert "ms |" in bytes(repository.commits[repository.branches["main"]]["README.md"]).decode()  # type: ignore[arg-type]
    content = json.loads(figures.read_text())
    content["figures"]["model_digest"] = "0" * 64
    figures.write_text(json.dumps(content))
    assert main(push) == 2
    assert "these figures are of another bundle" in capsys.readouterr().err


def test_a_bundle_on_a_hub_is_not_pushed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["push", "hf://me/bundle", "hf://me/other"])
    assert ending.value.code == 2
    assert "this command needs a folder; get one with 't2d pull hf://me/bundle --output DIR'" in capsys.readouterr().err


def test_what_cannot_be_pushed_is_one_line(
    hub: LoopbackHub, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(bundle: Path = bundle_copy, name: str = f"hf://{NAME}") -> str:
        assert main(["push", str(bundle), name]) == 2
        return capsys.readouterr().err

    assert "pushing needs a token; run 'hf auth login', or set HF_TOKEN" in told()
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert "the hub forbids it; is the token in HF_TOKEN meant for this" in told()
    hub.writers = frozenset(["hf_read"])
    assert "expected a repository and perhaps a branch" in told(name=f"hf://{NAME}/file")
    hub.add("me/other", {"model.safetensors": b"1"})
    assert "holds model.safetensors and is no bundle; choose another name" in told(name="hf://me/other")
    hub.add("me/bundle", files_of(bundle_copy))
    part = pull(HubName.parse(f"hf://{NAME}"), ["fp32"])
    assert "a bundle is pushed whole: " in told(part)
    content = bytearray((bundle_copy / TOKENIZER).read_bytes())
    content[9] ^= 1
    (bundle_copy / TOKENIZER).write_bytes(content)
    assert "tokenizer.json has sha256" in told()
    assert set(hub.repositories) == {"me/other", "me/bundle"}
    assert not hub.requests("PUT")
    assert {MANIFEST, IMAGE_ENCODER, SELFTEST} < set(files_of(bundle_copy))
