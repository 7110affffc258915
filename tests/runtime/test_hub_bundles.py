"""Bundles by name: pulled from a hub on loopback, only what is needed, and nothing that leaves its folder."""

from __future__ import annotations

import json
import logging
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime import Segmenter
from t2d_runtime.bundle.external_data import external_files
from t2d_runtime.bundle.files import IMAGE_ENCODER, MANIFEST, SELFTEST, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.from_hub import LARGEST_MANIFEST, pull
from t2d_runtime.bundle.manifest import SEAL, sealed
from t2d_runtime.cli import main
from t2d_runtime.commands.command_line import build_parser
from t2d_runtime.errors import BundleError, BundleNotFoundError, HubError, HubUnreachableError, OptionError
from t2d_runtime.storage.hub_names import HubName
from tests.hub.contents import sha256
from tests.hub.fixtures import hub
from tests.hub.server import LoopbackHub

__all__ = ["hub"]  # a fixture

NAME = "me/bundle"
ADDRESS = f"hf://{NAME}"
FP32 = {MANIFEST, IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, SELFTEST}
INT8 = {MANIFEST, SELFTEST, TOKENIZER, f"precisions/int8/{IMAGE_ENCODER}", f"precisions/int8/{TEXT_ENCODER}"}

PICTURE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)


@lru_cache(maxsize=1)
def content_of(bundle: Path) -> dict[str, bytes]:
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def commit(hub: LoopbackHub, exported_bundle: Path) -> str:
    """The small model's bundle on the hub."""
    return hub.add(NAME, content_of(exported_bundle))


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"pulled.txt"}


def pulled(hub: LoopbackHub, files: dict[str, bytes], edit: Callable[[dict[str, Any]], object] | None = None) -> Path:
    """Pull a bundle whose manifest was written by somebody else."""
    if edit is not None:
        data = json.loads(files[MANIFEST])
        edit(data)
        del data[SEAL]
        files = {**files, MANIFEST: sealed(data).encode()}
    hub.add(NAME, files)
    return pull(HubName.parse(ADDRESS), ["fp32"])


def test_a_bundle_is_opened_by_its_name(hub: LoopbackHub, commit: str, exported_bundle: Path) -> None:
    expected = Segmenter.open(exported_bundle, backend="onnxruntime").segment(PICTURE, ["sky", "grass"])
    for name in (ADDRESS, f"{ADDRESS}@main", f"{ADDRESS}@{commit}"):
        segmenter = Segmenter.open(name, backend="onnxruntime")
        assert np.array_equal(segmenter.segment(PICTURE, ["sky", "grass"]).label_map, expected.label_map)
    folder = segmenter.bundle.folder
    assert files_below(folder) == FP32
    assert not [path for path in folder.parent.rglob("*") if path.is_symlink()]
    assert set(hub.sent_bytes) == {name.rpartition("/")[2] for name in FP32}
    assert segmenter.bundle.pulled_from == f"{ADDRESS}@{commit}"
    assert set(folder.parent.iterdir()) == {folder, folder.with_name(f"{commit}.lock")}


def test_each_precision_brings_its_own_files(hub: LoopbackHub, commit: str) -> None:
    segmenter = Segmenter.open(ADDRESS, backend="onnxruntime", precision="int8")
    folder = segmenter.bundle.folder
    assert files_below(folder) == INT8
    assert Bundle.open(folder).graph_precisions(IMAGE_ENCODER) == ["int8"]
    with pytest.raises(BundleNotFoundError, match=rf"{IMAGE_ENCODER} stayed on the hub; get it with 't2d pull hf"):
        Bundle.open(folder).graph(IMAGE_ENCODER)
    pull(HubName.parse(ADDRESS), ["fp32"])
    assert files_below(folder) == FP32 | INT8
    assert hub.sent_bytes["selftest.npz"] == (folder / SELFTEST).stat().st_size
    with pytest.raises(BundleError, match=r"has no precisions/int4/image_encoder.onnx; it has the precisions fp32"):
        pull(HubName.parse(ADDRESS), ["int4"])


def test_a_pinned_bundle_needs_no_network_once_it_is_there(
    hub: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull(HubName.parse(ADDRESS), ["fp32"])
    seen = len(hub.seen)
    assert pull(HubName.parse(f"{ADDRESS}@{commit}"), ["fp32"]) == folder
    assert len(hub.seen) == seen
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pull(HubName.parse(ADDRESS), ["fp32"]) == folder
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(HubUnreachableError, match="is not in the cache, and HF_HUB_OFFLINE forbids the network"):
        pull(HubName.parse(ADDRESS), ["int8"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        pull(HubName.parse("hf://me/other"), ["fp32"])


def test_the_newest_is_taken_and_only_what_changed_hands(hub: LoopbackHub, commit: str, exported_bundle: Path) -> None:
    old = pull(HubName.parse(ADDRESS), [])
    new = pulled(hub, content_of(exported_bundle), lambda data: data["defaults"].update(threshold=0.4))
    assert old != new
    assert Bundle.open(new).manifest.defaults.threshold == 0.4


def test_the_commands_take_names(
    hub: LoopbackHub, commit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    assert main(["info", ADDRESS]) == 0
    out = capsys.readouterr().out
    assert f"pulled from     {ADDRESS}@{commit}" in out
    assert set(hub.sent_bytes) == {MANIFEST}
    here = [ADDRESS, "--backend", "onnxruntime"]
    results = str(tmp_path / "out")
    assert main(["segment", *here, str(tmp_path / "picture.png"), "--classes", "sky", "--output", results]) == 0
    assert main(["selftest", *here]) == 0
    assert main(["classes", *here, "--classes", "sky", "--output", str(tmp_path / "words.npz")]) == 0
    device = str(tmp_path / "device")
    assert main(["pull", ADDRESS, "--precision", "int8", "--without-words", "--output", device]) == 0
    assert files_below(tmp_path / "device") == {MANIFEST, SELFTEST, f"precisions/int8/{IMAGE_ENCODER}"}
    words = ["--vocabulary", str(tmp_path / "words.npz"), "--precision", "int8", "--backend", "onnxruntime"]
    assert main(["segment", device, str(tmp_path / "picture.png"), *words, "--output", results]) == 0
    capsys.readouterr()
    assert main(["pull", ADDRESS, "--output", device]) == 2
    assert "is a bundle already; choose another --output, or add --overwrite" in capsys.readouterr().err
    assert main(["pull", ADDRESS, "--output", device, "--overwrite"]) == 0
    assert files_below(tmp_path / "device") == FP32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "https://host/bundle"], "https:// is not read here; expected a folder or hf://ORG/REPO"),
        (["info", "s3://bucket/bundle"], "s3:// is not read here"),
        (["info", "hf://nothing"], "is no name on a hub: expected hf://ORG/REPO"),
        (["pull", "folder"], "folder is no name on a hub: expected hf://ORG/REPO"),
        (["pull", ADDRESS, "--precision", "int3"], "--precision has 'int3', expected any of fp32"),
        (["pull", ADDRESS, "--overwrite"], "--overwrite has no effect without --output"),
        (["pull", ADDRESS, "--output", __file__], "a file stands where a folder is expected; choose another --output"),
        (["pull", ADDRESS, "--output", "a" * 300], "File name too long; shorten the name"),
        (["pull", f"{ADDRESS}/manifest.json"], "names a file; a bundle is a whole repository"),
        (["pull", "hf://me/nothing"], "has no such repository"),
    ],
)
def test_wrong_arguments_are_one_line(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        status = main(arguments)
    except SystemExit as ending:
        status = int(ending.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", ADDRESS, "a.png", "--classes", "a"],
        ["video", ADDRESS, "a.mp4", "--classes", "a"],
        ["words", ADDRESS, "a.png", "--labels", "labels", "--classes-file", "F", "--output", "G"],
        ["classes", ADDRESS, "--classes", "a", "--output", "F.npz"],
        ["serve", ADDRESS],
        ["triton", ADDRESS, "--output", "models"],
        ["info", ADDRESS],
        ["selftest", ADDRESS],
        ["bench", ADDRESS],
        ["doctor", "--measure", ADDRESS],
    ],
)
def test_every_command_keeps_a_name_as_it_is(arguments: list[str]) -> None:
    given = vars(build_parser().parse_args(arguments))
    assert given.get("measure") or given["bundle"] == ADDRESS
    assert given.get("measure", ADDRESS) == ADDRESS


@pytest.mark.parametrize("name", ["https://host/bundle", "s3://bucket/bundle"])
def test_other_addresses_are_told_in_python(name: str) -> None:
    with pytest.raises(OptionError, match=r":// is not read here; expected a folder or hf://ORG/REPO"):
        Segmenter.open(name)


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/evil", "a/../../evil", "C:/evil", "C:evil", "a\\..\\evil", "\\\\host\\evil", "a//b", "./a",
        ".git/hooks/x", "nul", "com1.onnx", "a.", "a ", "x:y", "a\0b", "engines/tensorrt-1/engine.json",
        "Engines/tensorrt-1/x.engine", "Image_Encoder.onnx", "MANIFEST.json", "pulled.txt", "selftest.npz/x",
        "PRECISIONS/int8/image_encoder.onnx", "image_encoder.onnx ", "a" * 300,
    ],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_or_hides_is_refused(
    hub: LoopbackHub, exported_bundle: Path, tmp_path: Path, name: str
) -> None:
    evil = {"sha256": sha256(b"evil"), "size_bytes": 4}
    with pytest.raises(BundleError, match=r"^hf://me/bundle: the manifest names .*(nothing was|engine|some systems)"):
        pulled(hub, {**content_of(exported_bundle), name: b"evil"}, lambda data: data["files"].update({name: evil}))
    assert set(hub.sent_bytes) == {MANIFEST}
    files = {path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert len(files) == 1
    assert files.pop().endswith(".lock")


def message(*fields: tuple[int, bytes | str]) -> bytes:
    """A protobuf message of fields with lengths."""
    parts = [value.encode() if isinstance(value, str) else value for _, value in fields]
    return b"".join(
        varint(number << 3 | 2) + varint(len(part)) + part for (number, _), part in zip(fields, parts, strict=True)
    )


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tensor(location: str) -> bytes:
    return message((8, "weight"), (13, message((1, "location"), (2, location))), (13, message((1, "offset"), (2, "0"))))


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "initializer": lambda tensor: message((7, message((5, tensor)))),
    "sparse": lambda tensor: message((7, message((15, message((1, tensor)))))),
    "constant": lambda tensor: message((7, message((1, message((5, message((5, tensor)))))))),
    "subgraph": lambda tensor: message((7, message((1, message((5, message((6, message((5, tensor)))))))))),
    "function": lambda tensor: message((25, message((7, message((5, message((10, tensor)))))))),
    "training": lambda tensor: message((20, message((1, message((5, tensor)))))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["../../secret", "/etc/passwd", "selftest.npz", "C:\\x", ""])
def test_weights_outside_the_bundle_are_refused(
    hub: LoopbackHub, exported_bundle: Path, tmp_path: Path, place: str, location: str
) -> None:
    graph = PLACES[place](tensor(location))
    (tmp_path / "graph").write_bytes(graph)
    assert external_files(tmp_path / "graph") == {location}
    record = {"sha256": sha256(graph), "size_bytes": len(graph)}
    with pytest.raises(BundleError, match=r"image_encoder.onnx takes weights from .*, which is no file of the bundle"):
        pulled(
            hub,
            {**content_of(exported_bundle), IMAGE_ENCODER: graph},
            lambda data: data["files"].update({IMAGE_ENCODER: record}),
        )
    assert not list((tmp_path / "t2d").rglob(IMAGE_ENCODER))


@pytest.mark.parametrize("content", [b"", b"\xff" * 30, b"\x3a\x7fab", struct.pack("<Q", 7) * 9])
def test_a_file_that_is_no_graph_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph").write_bytes(content)
    with pytest.raises(BundleError, match=r"graph is (empty|no ONNX graph)"):
        external_files(tmp_path / "graph")


def test_the_project_s_own_graphs_name_no_other_file(exported_bundle: Path) -> None:
    for path in exported_bundle.rglob("*.onnx"):
        assert external_files(path) == set()


def test_another_file_than_the_manifest_names_is_told_before_it_is_downloaded(
    hub: LoopbackHub, exported_bundle: Path
) -> None:
    files = content_of(exported_bundle)
    with pytest.raises(BundleError, match=r"selftest.npz is not the file that the manifest names; push the bundle"):
        pulled(hub, {**files, SELFTEST: files[SELFTEST][:-1] + b"!"})
    with pytest.raises(BundleNotFoundError, match=r"tokenizer.json is missing from the repository"):
        pulled(hub, {name: content for name, content in files.items() if name != TOKENIZER})
    with pytest.raises(BundleNotFoundError, match=r"is no bundle: it has no manifest.json; make one with"):
        pulled(hub, {"model.safetensors": b"1"})
    assert set(hub.sent_bytes) == {MANIFEST}


def test_a_manifest_that_was_changed_is_refused(hub: LoopbackHub, exported_bundle: Path, tmp_path: Path) -> None:
    files = content_of(exported_bundle)
    with pytest.raises(BundleError, match="was changed since the export"):
        pulled(hub, {**files, MANIFEST: files[MANIFEST].replace(b"0.5", b"0.6", 1)})
    assert not list((tmp_path / "t2d").rglob(MANIFEST))


def test_a_small_file_that_the_manifest_does_not_mean_is_not_kept(
    hub: LoopbackHub, exported_bundle: Path, tmp_path: Path
) -> None:
    """A hub names no sha256 of a file in Git itself: another file of the same size shows only when it is there."""
    meant, other = b'{"a": 1}', b'{"a": 2}'

    def name_the_meant_one(data: dict[str, Any]) -> None:
        data["files"][TOKENIZER] = {"sha256": sha256(meant), "size_bytes": len(meant)}

    with pytest.raises(BundleError, match=r"tokenizer\.json does not have the sha256 in the manifest; nothing of it"):
        pulled(hub, {**content_of(exported_bundle), TOKENIZER: other}, name_the_meant_one)
    assert not list(tmp_path.rglob(TOKENIZER))


def test_a_manifest_of_any_size_is_not_read(hub: LoopbackHub, exported_bundle: Path) -> None:
    hub.add(NAME, {**content_of(exported_bundle), MANIFEST: b" " * (LARGEST_MANIFEST + 1)})
    with pytest.raises(BundleError, match=rf"manifest\.json has {LARGEST_MANIFEST + 1} bytes, expected at most"):
        pull(HubName.parse(ADDRESS), ["fp32"])
    assert not hub.sent_bytes


def test_engines_in_the_repository_stay_there(hub: LoopbackHub, exported_bundle: Path) -> None:
    folder = pulled(hub, {**content_of(exported_bundle), "engines/openvino-0123456789abcdef/engine.json": b"{}"})
    assert files_below(folder) == FP32


def test_a_damaged_file_is_not_kept(hub: LoopbackHub, commit: str, tmp_path: Path) -> None:
    hub.fail(IMAGE_ENCODER, content=b"x" * len(hub.repositories[NAME].commits[commit][IMAGE_ENCODER]))  # type: ignore[arg-type]
    with pytest.raises(HubError, match="nothing of it was kept"):
        Segmenter.open(ADDRESS)
    assert not list((tmp_path / "t2d").rglob("*image_encoder*"))


def test_a_pull_that_is_killed_goes_on(hub: LoopbackHub, commit: str, exported_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "t2d_runtime", "pull", ADDRESS, "--output", str(tmp_path / "out")]
    for place in (1_000_000, 3_333_333, 7_000_000):
        fault = hub.fail(IMAGE_ENCODER, stall_at=place, times=1)
        child = subprocess.Popen(command)
        assert fault.reached.wait(120)
        while sum(path.stat().st_size for path in (tmp_path / "t2d").rglob("*image_encoder*")) < place:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    whole = {name: content for name, content in content_of(exported_bundle).items() if name in FP32}
    assert hub.sent_bytes == {name: len(content) for name, content in whole.items()}
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FP32} == whole
    assert {path.name for path in tmp_path.iterdir()} - {"hf"} == {"out", "t2d"}
