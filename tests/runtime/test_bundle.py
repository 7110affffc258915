"""A damaged bundle is refused with one clear message."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from t2d_runtime import Segmenter
from t2d_runtime.bundle.files import IMAGE_ENCODER, MANIFEST, SELFTEST, TEXT_ENCODER, TOKENIZER, Bundle, record_of
from t2d_runtime.bundle.manifest import SCHEMA_VERSION, SEAL, Manifest, sealed
from t2d_runtime.errors import BackendError, BundleError, BundleNotFoundError, T2DError


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """As an export of other settings would have written it."""
    path = bundle / MANIFEST
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(sealed(data))


def change_a_byte(path: Path) -> None:
    """Neither its size nor its date tells."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_manifest_survives_a_round_trip(exported_bundle: Path) -> None:
    manifest = Bundle.open(exported_bundle).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(
        BundleNotFoundError, match=r"is not a bundle: expected a folder with manifest\.json, but it has"
    ):
        Bundle.open(tmp_path)


def test_the_reason_why_a_path_is_no_bundle_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "none": "no such folder",
        "file": "it is a file",
        "loop": "links lead in a circle",
        "a" * 300: "too long",
    }
    for name, reason in {**reasons, "a\0b": "cannot be a path"}.items():
        with pytest.raises(BundleNotFoundError, match=reason):
            Bundle.open(tmp_path / name)


@pytest.mark.parametrize("text", ["", "[" * 200_000, '{"schema_version": ' + "9" * 5000 + "}"])
def test_a_manifest_that_no_reader_of_json_takes_is_no_traceback(text: str) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        Manifest.from_json(text)


@pytest.mark.parametrize("name", [IMAGE_ENCODER, SELFTEST])
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(BundleNotFoundError, match=f"{name} is missing from the bundle"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: content + b"x"])
def test_a_file_of_another_size_is_named(bundle_copy: Path, harm: Callable[[bytes], bytes]) -> None:
    path = bundle_copy / IMAGE_ENCODER
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BundleError, match=rf"{IMAGE_ENCODER} has \d+ bytes, the manifest says"):
        Bundle.open(bundle_copy)


def test_a_changed_byte_is_found(bundle_copy: Path) -> None:
    change_a_byte(bundle_copy / IMAGE_ENCODER)
    bundle = Bundle.open(bundle_copy)
    with pytest.raises(BundleError, match=rf"{IMAGE_ENCODER} has sha256 .*changed or damaged"):
        bundle.graph(IMAGE_ENCODER)


def test_what_is_made_of_a_changed_file_meanwhile_is_refused(bundle_copy: Path) -> None:
    with Bundle.open(bundle_copy).graph_in_use(IMAGE_ENCODER) as path:
        assert path == bundle_copy / IMAGE_ENCODER
    change_a_byte(path)
    with pytest.raises(BundleError, match="changed or damaged"), Bundle.open(bundle_copy).graph_in_use(IMAGE_ENCODER):
        pass
    with pytest.raises(BundleError, match="changed or damaged"), Bundle.open(bundle_copy).graph_in_use(IMAGE_ENCODER):
        raise BackendError("it cannot be compiled")


def with_external_weights(folder: Path) -> Path:
    """Adds a file of external weights to a bundle's image encoder."""
    weights = folder / f"{IMAGE_ENCODER}.data"
    weights.write_bytes(bytes(range(256)))
    edit_manifest(folder, lambda data: data["files"].update({weights.name: asdict(record_of(weights))}))
    return weights


def test_a_graph_is_checked_before_an_engine_parses_it_and_its_weights_meanwhile(bundle_copy: Path) -> None:
    entered = []

    def parse() -> None:
        with Bundle.open(bundle_copy).graph_in_use(IMAGE_ENCODER, parsed=True) as path:
            entered.append(path)
            raise BackendError("it cannot be parsed")

    weights = with_external_weights(bundle_copy)
    with pytest.raises(BackendError, match="it cannot be parsed"):
        parse()
    change_a_byte(weights)
    with pytest.raises(BundleError, match=rf"{IMAGE_ENCODER}.data has sha256 .*changed or damaged"):
        parse()
    assert entered == [bundle_copy / IMAGE_ENCODER] * 2
    change_a_byte(bundle_copy / IMAGE_ENCODER)
    with pytest.raises(BundleError, match=rf"{IMAGE_ENCODER} has sha256 .*changed or damaged"):
        parse()
    assert len(entered) == 2


def test_an_engine_with_damaged_weights_is_not_opened(bundle_copy: Path) -> None:
    change_a_byte(with_external_weights(bundle_copy))
    with pytest.raises(BundleError, match=rf"{IMAGE_ENCODER}.data has sha256 .*changed or damaged"):
        Segmenter.open(bundle_copy, backend="onnxruntime")


def test_an_unchanged_copy_opens_anywhere(bundle_copy: Path) -> None:
    assert Bundle.open(bundle_copy).graph(IMAGE_ENCODER) == bundle_copy / IMAGE_ENCODER


def test_a_precision_it_does_not_hold_is_listed(exported_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no image_encoder.onnx in precision 'int3', only in \['fp32'"):
        Bundle.open(exported_bundle).graph(IMAGE_ENCODER, "int3")


def test_a_newer_schema_version_asks_for_an_update(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda data: data.update(schema_version=SCHEMA_VERSION + 1, novelty=1))
    with pytest.raises(BundleError, match=f"has schema version {SCHEMA_VERSION + 1}.*update t2d-runtime"):
        Bundle.open(bundle_copy)


def test_an_older_schema_version_asks_for_an_export(exported_bundle: Path, tmp_path: Path) -> None:
    data = json.loads((exported_bundle / MANIFEST).read_text())
    del data[SEAL]
    (tmp_path / MANIFEST).write_text(json.dumps({**data, "schema_version": SCHEMA_VERSION - 1}))
    with pytest.raises(BundleError, match=f"has schema version {SCHEMA_VERSION - 1}.*export the bundle again"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean": [\n      0.4', '"mean": [\n      0.9'),
        ('"threshold": 0.5', '"threshold": 0.4'),
        ('  "model"', '\t"model"'),
        ("}\n", "}\r\n"),
        (f'"{SEAL}": "', f'"{SEAL}": "0'),
        (f'"{SEAL}"', '"seal"'),
    ],
)
def test_a_changed_manifest_is_found(exported_bundle: Path, tmp_path: Path, old: str, new: str) -> None:
    content = (exported_bundle / MANIFEST).read_bytes()
    assert old.encode() in content
    (tmp_path / MANIFEST).write_bytes(content.replace(old.encode(), new.encode(), 1))
    with pytest.raises(BundleError, match=r"changed since the export: .*; copy it or export it again"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.pop("windows"), r"missing keys \['windows'\]"),
        (lambda data: data.update(colour="red"), r"unknown keys \['colour'\]"),
        (lambda data: data["model"].update(embed_dim="wide"), "embed_dim is 'wide', expected int"),
        (lambda data: data["model"].update(input_size=[224]), "input_size has 1 entries, expected 2"),
        (lambda data: data["model"].update(input_size=[224, 225]), "expected multiples of the patch size"),
        (lambda data: data["windows"].update(stride=[0, 1]), r"windows.stride is \(0, 1\), expected positive"),
        (lambda data: data["prompt_sets"].pop("subset"), "expected 'subset' among them"),
        (lambda data: data["prompt_sets"].update(own=["a photo"]), "prompt_sets.own is .* each with {} for the name"),
        (lambda data: data["prompt_sets"].update(own=[]), "prompt_sets.own is .* one or more templates"),
        (lambda data: data["windows"].update(stride=[112, 225]), r"stride is \(112, 225\), expected no more than"),
        (lambda data: data["model"].update(context_length=2), "context_length is 2, expected 3 or more"),
        (lambda data: data["preprocessing"].update(std=[0.2, 0.0, 0.2]), "std is .* expected numbers above 0"),
        (lambda data: data["preprocessing"].update(std=[0.2, 0.2, math.inf]), "std is .* expected numbers above 0"),
        (lambda data: data["preprocessing"].update(mean=[math.nan, 0, 0]), "mean is .* expected finite"),
        (lambda data: data["defaults"].update(threshold=7), "threshold is 7.0, expected 0 to 1"),
        (lambda data: data["defaults"].update(threshold=math.nan), "threshold is nan, expected 0 to 1"),
        (lambda data: data["defaults"].update(cleaning_weight=-1), "cleaning_weight is -1.0, expected a finite"),
        (lambda data: data["defaults"].update(cleaning_weight=math.inf), "cleaning_weight is inf, expected a finite"),
        (lambda data: data["defaults"]["pamr"].update(dilations=[]), r"dilations is \(\), expected positive"),
        (lambda data: data["defaults"]["pamr"].update(dilations=[1, 0]), r"dilations is \(1, 0\), expected positive"),
        (lambda data: data["defaults"]["pamr"].update(iterations=-1), "iterations is -1, expected 0 to 1000"),
        (lambda data: data["defaults"]["pamr"].update(iterations=1001), "iterations is 1001, expected 0 to 1000"),
        (
            lambda data: data["defaults"]["pamr"].update(dilations=[513]),
            r"dilations is \(513,\), expected .* up to 512",
        ),
        (lambda data: data["defaults"]["pamr"].update(dilations=[1] * 65), "dilations is .* at most 64 of them"),
        (lambda data: data["windows"].update(max_long_side=16385), "long_side is .* positive numbers up to 16384"),
        (lambda data: data["model"].update(num_prefix_tokens=-1), "prefix_tokens is -1, expected 0 to 1024"),
        (lambda data: data["model"].update(num_prefix_tokens=1025), "prefix_tokens is 1025, expected 0 to 1024"),
        (lambda data: data["files"].pop(SELFTEST), f"manifest.json names no {SELFTEST}"),
        (lambda data: data["files"].pop(TOKENIZER), f"manifest.json names no {TOKENIZER}"),
    ],
)
def test_a_wrong_manifest_is_refused(
    exported_bundle: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    shutil.copyfile(exported_bundle / MANIFEST, tmp_path / MANIFEST)
    edit_manifest(tmp_path, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/x", "..\\x", "C:\\x", "C:x", "a/../../x", ".hidden", "nul"])
def test_a_path_outside_the_bundle_is_refused(bundle_copy: Path, name: str) -> None:
    edit_manifest(bundle_copy, lambda data: data["files"].update({name: {"sha256": "", "size_bytes": 0}}))
    with pytest.raises(BundleError, match=r"manifest\.json names .*, which .*; expected files inside the bundle's"):
        Bundle.open(bundle_copy)


def forbid(monkeypatch: pytest.MonkeyPatch, call: str, path: Path) -> None:
    """Refuse a call of `os` for a path and what is below it, as the system does without a permission."""
    allowed = getattr(os, call)

    def checked(given: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(given, str | Path) and Path(given).is_relative_to(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(given))
        return allowed(given, *arguments, **options)

    monkeypatch.setattr(os, call, checked)


@pytest.mark.parametrize("place", ["precisions", IMAGE_ENCODER, TEXT_ENCODER])
def test_a_file_that_may_not_be_seen_is_told(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    for call in ("stat", "lstat"):
        forbid(monkeypatch, call, bundle_copy / place)
    with pytest.raises(BundleError, match=rf"{place}.* cannot be read: no permission; give this user the right"):
        Bundle.open(bundle_copy)


def test_a_manifest_that_may_not_be_read_is_told(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: Path.open(path / "no", "rb"))
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read as text"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[]", b"null"])
def test_a_manifest_that_is_no_object_is_refused(bundle_copy: Path, content: bytes) -> None:
    (bundle_copy / MANIFEST).write_bytes(content)
    with pytest.raises(T2DError, match=r"manifest\.json"):
        Bundle.open(bundle_copy)


def test_a_bundle_moved_elsewhere_needs_nothing_of_its_old_place(bundle_copy: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(bundle_copy, tmp_path / "other" / "place"))
    text = "".join(path.read_text(errors="ignore") for path in moved.rglob("*") if path.is_file())
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text
    Bundle.open(moved).file(TOKENIZER)


def test_a_bundle_opened_by_a_relative_path_outlives_a_change_of_folder(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle_copy.parent)
    segmenter = Segmenter.open(bundle_copy.name, backend="onnxruntime")
    monkeypatch.chdir("/")
    assert len(segmenter.encode_classes(["a word of its own"]).names) == 1


@pytest.mark.parametrize("path", [None, "", b"bundle", 3])
def test_what_is_no_path_of_a_bundle_is_told(path: Any) -> None:
    with pytest.raises(BundleNotFoundError, match="expected the path of a bundle's folder, as text, got"):
        Bundle.open(path)
