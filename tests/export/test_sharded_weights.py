"""Weights in several files: an index, a folder, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2d_export.model.reference import load_reference
from t2d_export.weights.checkpoints import read_checkpoint
from t2d_runtime.errors import WeightsError, WeightsNotFoundError

TENSORS = {name: torch.arange(4.0) + number for number, name in enumerate(["a.weight", "b.weight", "c.weight"])}


def sharded(folder: Path, tensors: dict[str, torch.Tensor], suffix: str = ".safetensors") -> Path:
    """Two shards and their index, as Hugging Face's libraries write them; returns the index."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    folder.mkdir(parents=True, exist_ok=True)
    names, places = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-{number:05}-of-00002{suffix}"
        content = {name: tensors[name] for name in part}
        save_file(content, folder / shard) if suffix == ".safetensors" else torch.save(content, folder / shard)
        places |= dict.fromkeys(part, shard)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def assert_read(path: Path) -> None:
    got = read_checkpoint(path)
    assert got.keys() == TENSORS.keys()
    assert all(torch.equal(got[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_an_index_a_folder_and_shards_without_an_index(tmp_path: Path, suffix: str) -> None:
    index = sharded(tmp_path / "weights", TENSORS, suffix)
    assert_read(index)
    assert_read(index.parent)
    index.unlink()
    assert_read(index.parent)


def test_a_backbone_from_shards_is_the_plain_files(model_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(model_folder / "backbone.safetensors")
    plain = load_reference(backbone=str(model_folder)).backbone.state_dict()
    index = sharded(tmp_path / "weights", tensors)
    digests = set()
    for path in (index, index.parent):
        given = load_reference(backbone=str(model_folder), backbone_weights=str(path))
        assert all(torch.equal(value, plain[key]) for key, value in given.backbone.state_dict().items())
        digests.add(given.sources["backbone"].sha256)
    sharded(tmp_path / "weights", {key: value + 1 for key, value in tensors.items()})
    digests.add(load_reference(backbone=str(model_folder), backbone_weights=str(index)).sources["backbone"].sha256)
    assert len(digests) == 2  # one of each content, whichever way it is named


def test_a_hubs_folder_is_read_by_the_name_that_its_libraries_look_for(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    torch.save({key: value + 1 for key, value in TENSORS.items()}, tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    assert_read(tmp_path)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "last.pth")
    (tmp_path / "README.md").write_text("weights")
    assert_read(tmp_path)


def test_a_model_folder_gives_the_part_that_is_asked_for(model_folder: Path) -> None:
    plain = load_reference(backbone=str(model_folder))
    folder = str(model_folder)
    given = load_reference(backbone=folder, backbone_weights=folder, text_weights=folder, projection=folder)
    assert given.sources == plain.sources


def test_links_of_a_hubs_cache_are_followed(tmp_path: Path) -> None:
    index = sharded(tmp_path / "blobs", TENSORS)
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for path in index.parent.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert_read(snapshot)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, TENSORS)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    message = r"1 of 2 shards are missing \(model-00002-of-00002.safetensors\)"
    for path in (index, tmp_path):
        with pytest.raises(WeightsNotFoundError, match=message):
            read_checkpoint(path)
    index.unlink()
    with pytest.raises(WeightsNotFoundError, match=message):
        read_checkpoint(tmp_path)


def test_one_shard_alone_is_told_from_a_model(tmp_path: Path) -> None:
    sharded(tmp_path, TENSORS)
    with pytest.raises(WeightsError, match="is one of 2 shards; give their index"):
        read_checkpoint(tmp_path / "model-00001-of-00002.safetensors")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, TENSORS)
    shard = tmp_path / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(WeightsError, match=r"model-00001-of-00002.safetensors is truncated"):
        read_checkpoint(index)


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/out.safetensors", "a/../../out.bin", "C:\\out.bin", ""])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / "out.safetensors")
    index = tmp_path / "inside" / "model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(WeightsError, match="which is no file of its folder"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "holds no weight_map"),
        ('{"weight_map": {}}', "holds no weight_map"),
        ('{"weight_map": {"a": 3}}', "holds no weight_map"),
        ('{"weight_map": {"a.weight": "notes.txt"}}', "names the shard 'notes.txt', expected one of .safetensors"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(index)


def test_an_index_of_other_shards_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path, TENSORS)
    content: dict[str, Any] = json.loads(index.read_text())
    del content["weight_map"]["a.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"differ in 1 keys \(a.weight\)"):
        read_checkpoint(index)


def test_shards_that_share_a_key_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file(TENSORS, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(WeightsError, match=r"holds a.weight once more"):
        read_checkpoint(tmp_path)


def test_folders_of_several_models_or_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"holds no weights: expected model.safetensors"):
        read_checkpoint(tmp_path)
    for name in ("first.pth", "second.pth"):
        torch.save(TENSORS, tmp_path / name)
    with pytest.raises(WeightsError, match=r"holds 2 weights \(first.pth, second.pth\); give the path of one"):
        read_checkpoint(tmp_path)


def test_shards_of_two_models_are_told(tmp_path: Path) -> None:
    for stem in ("one", "two"):
        save_file(TENSORS, tmp_path / f"{stem}-00001-of-00002.safetensors")
    with pytest.raises(WeightsError, match="holds the shards of 2 models"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_note_of_git_lfs_says_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(WeightsError, match="'git lfs pull'"):
        read_checkpoint(tmp_path / name)
