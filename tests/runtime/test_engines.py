"""Engines built ahead of time: foreign, stale, truncated and damaged ones are errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from t2d_runtime.bundle.engines import (
    ENGINE_MANIFEST,
    ENGINES_FOLDER,
    SCHEMA_VERSION,
    BuiltGraph,
    EngineIdentityKey,
    EngineManifest,
    Profile,
    WantedEngine,
    find_engine,
    read_engine,
    read_engines,
    tensorrt_options,
)
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle, record_of
from t2d_runtime.cli import main
from t2d_runtime.errors import BackendError

BACKEND, VERSION, TARGET = "tensorrt-rtx", "1.7.1.116", "8.6"


@pytest.fixture
def identity(bundle_copy: Path) -> EngineIdentityKey:
    digests = Bundle.open(bundle_copy).graph_digests("fp16")
    return EngineIdentityKey(BACKEND, VERSION, TARGET, "fp16", digests, {"profiles": "a"})


def write_engine(bundle: Path, identity: EngineIdentityKey) -> Path:
    """An engine folder whose engines are a few bytes."""
    folder = bundle / ENGINES_FOLDER / identity.folder_name
    folder.mkdir(parents=True)
    graphs = {}
    for graph in (IMAGE_ENCODER, TEXT_ENCODER):
        path = folder / f"{graph}.engine"
        path.write_bytes(graph.encode() * 100)
        profile = Profile((1, 1), (1, 2), (4, 4))
        graphs[graph] = BuiltGraph(path.name, record_of(path), {"input": profile}, 700, ("a warning",))
    (folder / ENGINE_MANIFEST).write_text(EngineManifest(SCHEMA_VERSION, identity, graphs).to_json())
    return folder


def find(bundle: Path) -> tuple[Path, EngineManifest]:
    opened = Bundle.open(bundle)
    return find_engine(opened, WantedEngine(BACKEND, VERSION, TARGET, "fp16", opened.graph_digests("fp16")))


def test_an_engine_of_float32_that_rounds_to_tf32_does_not_fit(bundle_copy: Path, identity: EngineIdentityKey) -> None:
    opened = Bundle.open(bundle_copy)
    digests = opened.graph_digests("fp32")
    wanted = WantedEngine(BACKEND, VERSION, TARGET, "fp32", digests, options=tensorrt_options("fp32"))
    older = replace(identity, precision="fp32", onnx_sha256=digests)
    write_engine(bundle_copy, older)
    with pytest.raises(BackendError, match=r"found .*, built without tf32 off\); build it with"):
        find_engine(opened, wanted)
    folder = write_engine(bundle_copy, replace(older, options={**older.options, **tensorrt_options("fp32")}))
    assert find_engine(opened, wanted)[0] == folder
    assert tensorrt_options("fp16") == {}


def test_an_engine_that_fits_is_found_and_read(bundle_copy: Path, identity: EngineIdentityKey) -> None:
    folder = write_engine(bundle_copy, identity)
    write_engine(bundle_copy, replace(identity, target="8.9"))
    found, manifest = find(bundle_copy)
    assert found == folder
    assert manifest.identity == identity
    assert read_engine(found, manifest, TEXT_ENCODER) == TEXT_ENCODER.encode() * 100


@pytest.mark.parametrize(
    ("changed", "value", "said"),
    [
        ("version", "1.2", "version 1.2"),
        ("target", "12.0", "12.0"),
        ("onnx_sha256", ("0",), "built from other graphs than the bundle's"),
        ("precision", "int8", "found none"),
    ],
)
def test_a_foreign_or_stale_engine_is_refused_with_the_command_that_builds_the_right_one(
    bundle_copy: Path, identity: EngineIdentityKey, changed: str, value: object, said: str
) -> None:
    write_engine(bundle_copy, replace(identity, **{changed: value}))  # type: ignore[arg-type]
    with pytest.raises(BackendError) as refused:
        find(bundle_copy)
    message = str(refused.value)
    assert "expected version 1.7.1.116, 8.6" in message
    assert said in message
    command = "--backend tensorrt-rtx --precision fp16 --compute-capability 8.6"
    assert f"t2d-export engine {bundle_copy} {command}" in message


def test_every_part_of_the_identity_is_in_the_folder_name(identity: EngineIdentityKey) -> None:
    changes = {
        "version": "2",
        "target": "8.9",
        "precision": "fp32",
        "onnx_sha256": ("1",),
        "options": {"profiles": "b"},
    }
    names = {replace(identity, **{key: value}).folder_name for key, value in changes.items()}  # type: ignore[arg-type]
    assert len(names | {identity.folder_name}) == len(changes) + 1
    assert all(name.startswith("tensorrt-rtx-") for name in names)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def damage(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


@pytest.mark.parametrize(("harm", "said"), [(truncate, "cut short"), (damage, "damaged"), (Path.unlink, "is missing")])
def test_a_harmed_engine_file_is_never_deserialised(
    bundle_copy: Path, identity: EngineIdentityKey, harm: Callable[[Path], None], said: str
) -> None:
    folder = write_engine(bundle_copy, identity)
    harm(folder / f"{IMAGE_ENCODER}.engine")
    with pytest.raises(BackendError, match=rf"{said}; remove .* build the engine again with 't2d-export engine'"):
        read_engine(*find(bundle_copy), IMAGE_ENCODER)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", b"\xff\xfe".decode("latin-1")])
def test_a_damaged_engine_manifest_is_an_error(bundle_copy: Path, identity: EngineIdentityKey, content: str) -> None:
    path = write_engine(bundle_copy, identity) / ENGINE_MANIFEST
    path.write_text(content, encoding="latin-1")
    with pytest.raises(BackendError, match=r"engine\.json"):
        find(bundle_copy)


def test_an_engine_manifest_that_cannot_be_read_is_told(bundle_copy: Path, identity: EngineIdentityKey) -> None:
    path = write_engine(bundle_copy, identity) / ENGINE_MANIFEST
    path.unlink()
    path.mkdir()
    with pytest.raises(BackendError, match=r"engine\.json cannot be read: it is a folder"):
        find(bundle_copy)


def test_an_engine_manifest_of_another_version_is_an_error(bundle_copy: Path, identity: EngineIdentityKey) -> None:
    path = write_engine(bundle_copy, identity) / ENGINE_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(BackendError, match=f"has schema version {SCHEMA_VERSION + 1}, expected {SCHEMA_VERSION}"):
        find(bundle_copy)


@pytest.mark.parametrize("name", ["../image_encoder.onnx", "/etc/hostname", "absent"])
def test_an_engine_is_read_from_its_own_folder_alone(bundle_copy: Path, identity: EngineIdentityKey, name: str) -> None:
    write_engine(bundle_copy, identity)
    folder, manifest = find(bundle_copy)
    graphs = {IMAGE_ENCODER: replace(manifest.graphs[IMAGE_ENCODER], file=name)}
    message = "is missing" if name == "absent" else "names no file of its folder"
    with pytest.raises(BackendError, match=message):
        read_engine(folder, replace(manifest, graphs=graphs), IMAGE_ENCODER)
    with pytest.raises(BackendError, match=f"names no file of its folder for {TEXT_ENCODER}"):
        read_engine(folder, replace(manifest, graphs=graphs), TEXT_ENCODER)


def test_engines_of_another_backend_are_not_looked_at(bundle_copy: Path, identity: EngineIdentityKey) -> None:
    folder = write_engine(bundle_copy, identity)
    assert list(read_engines(Bundle.open(bundle_copy), BACKEND)) == [folder]
    (folder.with_name("tensorrt-rtx-0") / "").mkdir()
    (folder.with_name("tensorrt-rtx-0") / ENGINE_MANIFEST).write_text("{")
    assert not read_engines(Bundle.open(bundle_copy), "tensorrt")
    assert json.loads((folder / ENGINE_MANIFEST).read_text())["graphs"][IMAGE_ENCODER]["num_layers"] == 700


def test_info_shows_engines_and_their_targets(
    bundle_copy: Path, identity: EngineIdentityKey, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_engine(bundle_copy, identity)
    damaged = bundle_copy / "engines" / "openvino-0"
    damaged.mkdir()
    (damaged / ENGINE_MANIFEST).write_text("{")
    assert main(["info", str(bundle_copy)]) == 0
    told = capsys.readouterr().out.splitlines()
    built = [line for line in told if line.startswith("built engine    ")]
    assert f"built engine    openvino: {damaged / ENGINE_MANIFEST} is damaged" in built[0]
    assert built[1:] == [
        f"built engine    {identity.backend} {identity.version}, {identity.precision}, for {identity.target}: "
        f"image_encoder.onnx, text_encoder.onnx in engines/{folder.name}"
    ]
    assert main(["info", str(bundle_copy), "--json"]) == 0
    broken, engine = json.loads(capsys.readouterr().out)["engines"]
    assert (broken["backend"], broken["error"].partition(" is damaged")[0]) == (
        "openvino",
        str(damaged / ENGINE_MANIFEST),
    )
    assert engine == {
        "backend": BACKEND,
        "version": VERSION,
        "precision": "fp16",
        "target": TARGET,
        "graphs": [IMAGE_ENCODER, TEXT_ENCODER],
        "folder": f"engines/{folder.name}",
    }
