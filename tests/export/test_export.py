"""`t2d-export`: a bundle is written whole and verified, or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from t2d_export import export
from t2d_export.cli import main, parse_input_size
from t2d_export.encoders import graphs
from t2d_export.export import ExportSettings, export_bundle
from t2d_runtime import Segmenter, __version__
from t2d_runtime.bundle.files import IMAGE_ENCODER, SELFTEST, TEXT_ENCODER, TOKENIZER
from t2d_runtime.device.machine import machine_facts
from t2d_runtime.errors import OptionError, VerificationError

CONFIG = {
    "architecture": "dinov2",
    "embed_dim": 64,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 14,
    "num_register_tokens": 2,
    "image_size": 56,
    "text": {
        "width": 16,
        "layers": 2,
        "heads": 2,
        "context_length": 77,
        "embed_dim": 24,
        "activation": "quick_gelu",
    },
    "windows": {"short_side": 56, "crop_size": 56, "stride": 28},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def settings(model: Path) -> ExportSettings:
    return ExportSettings(str(model), "random", "random", "random")


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    export_bundle(settings(model), folder)
    return folder


def test_a_bundle_holds_what_the_contract_names(bundle: Path) -> None:
    names = sorted(path.name for path in bundle.iterdir())
    assert names == sorted([IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, SELFTEST, "manifest.json"])
    assert {path.stat().st_mode & 0o777 for path in bundle.iterdir()} == {0o644}
    manifest = Segmenter.open(bundle, backend="onnxruntime").manifest
    assert manifest.model.input_size == (56, 56)
    assert manifest.model.num_prefix_tokens == 3
    assert manifest.model.embed_dim == 64
    assert all(stage.passed for stage in manifest.parity)
    assert {source.name for source in manifest.sources.values()} == {"random"}


def test_names_shapes_and_types_of_the_graphs(bundle: Path) -> None:
    image, text = (onnx.load(bundle / name).graph for name in (IMAGE_ENCODER, TEXT_ENCODER))

    def shapes(values: object) -> dict[str, list[object]]:
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in values  # type: ignore[attr-defined]
        }

    assert shapes(image.input) == {"pixel_values": ["batch", 3, 56, 56]}
    assert shapes(image.output) == {
        "patch_tokens": ["batch", 16, 64],
        "cls_attention": ["batch", 2, 16],
        "cls_token": ["batch", 64],
    }
    assert shapes(text.input) == {"input_ids": ["classes", "prompts", "tokens"]}
    assert shapes(text.output) == {"text_embeds": ["classes", 64]}
    assert {node.op_type for node in image.node} >= {"LayerNormalization", "Softmax"}
    assert sum(node.op_type == "LayerNormalization" for node in image.node) == 2 * 2 + 1
    assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in image.output)


def test_the_same_export_gives_the_same_bytes_and_names_no_machine(bundle: Path, model: Path, tmp_path: Path) -> None:
    export_bundle(settings(model), tmp_path / "again")
    for name in (IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER):
        content = (bundle / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes()
        assert str(Path.cwd()).encode() not in content
        assert b"site-packages" not in content


def test_an_export_names_only_what_is_installed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout that is not installed, with onnxruntime-gpu in the place of onnxruntime."""
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package in ("t2d-runtime", "onnxruntime"):
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.31.1" if package == "onnxruntime-gpu" else real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    exporter = export_bundle(settings(model), tmp_path / "bundle").exporter
    assert exporter["t2d-runtime"] == __version__
    assert exporter["onnxruntime-gpu"] == "1.31.1"
    assert "onnxruntime" not in exporter
    assert machine_facts().versions["t2d-runtime"] == __version__


@pytest.fixture(scope="module")
def averaged(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rectangular bundle that averages tokens of a tower with GELU, written by the command."""
    folder = tmp_path_factory.mktemp("bundles") / "averaged"
    weights = ["--backbone-weights", "random", "--text-weights", "random", "--projection", "random"]
    options = ["--input-size", "42x70", "--average-tokens", "--text-activation", "gelu", "--threshold", "0.61"]
    assert main(["bundle", "--backbone", str(model), *weights, *options, "--output", str(folder)]) == 0
    return folder


def test_a_rectangular_input_size(averaged: Path) -> None:
    segmenter = Segmenter.open(averaged, backend="onnxruntime")
    assert segmenter.manifest.model.grid_size == (3, 5)
    result = segmenter.segment(np.zeros((30, 50, 3), np.uint8), segmenter.encode_classes(["sky"]))
    assert result.label_map.shape == (30, 50)


def test_averaged_tokens_by_the_command(bundle: Path, model: Path, averaged: Path) -> None:
    other, published = (Segmenter.open(folder, backend="onnxruntime") for folder in (averaged, bundle))
    assert other.manifest.model.average_tokens
    assert not published.manifest.model.average_tokens
    assert (other.manifest.defaults.threshold, published.manifest.defaults.threshold) == (0.61, 0.55)
    ids = np.array([[[49406, 320, 1929, 49407]]])
    with torch.inference_mode():
        asked = replace(settings(model), average_tokens=True, text_activation="gelu")
        expected = asked.load_reference().text_embeds(torch.from_numpy(ids))
    assert (other.manifest.model.text_activation, published.manifest.model.text_activation) == ("gelu", "quick_gelu")
    np.testing.assert_allclose(other.encoders.run_text_encoder(ids), expected.numpy(), atol=1e-6, rtol=0)
    assert np.abs(other.encoders.run_text_encoder(ids) - published.encoders.run_text_encoder(ids)).max() > 1e-3


def test_the_text_encoder_takes_any_number_of_classes_prompts_and_tokens(bundle: Path, model: Path) -> None:
    segmenter = Segmenter.open(bundle, backend="onnxruntime")
    reference = settings(model).load_reference()
    for shape in ((1, 1, 2), (2, 3, 5), (7, 1, 77)):
        ids = np.random.default_rng(0).integers(1, 49000, shape)
        ids[:, :, -1] = 49407
        with torch.inference_mode():
            expected = reference.text_embeds(torch.from_numpy(ids)).numpy()
        np.testing.assert_allclose(segmenter.encoders.run_text_encoder(ids), expected, atol=1e-6, rtol=0)


def test_what_follows_the_end_token_changes_nothing(bundle: Path) -> None:
    segmenter = Segmenter.open(bundle, backend="onnxruntime")
    short = segmenter.encoders.tokenize(["a photo of a cat."])
    padded = np.zeros((1, 77), np.int64)
    padded[:, : short.shape[1]] = short
    expected = segmenter.encoders.run_text_encoder(short[None])
    np.testing.assert_allclose(segmenter.encoders.run_text_encoder(padded[None]), expected, atol=1e-6, rtol=0)


def stored(graph: Path) -> Callable[[object, Path], object]:
    """In place of a trace that a test is not about: a graph that was traced before."""
    return lambda _, path: shutil.copy(graph, path)


def test_a_wrong_graph_fails_verification_which_names_the_stage(
    bundle: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = graphs.ImageEncoderGraph.forward

    def doubled(self: graphs.ImageEncoderGraph, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens, attention, cls_token = right(self, pixel_values)
        return tokens, 2 * attention, cls_token

    monkeypatch.setattr(graphs.ImageEncoderGraph, "forward", doubled)
    monkeypatch.setattr(export, "export_text_encoder", stored(bundle / TEXT_ENCODER))
    with pytest.raises(VerificationError, match="stage 'cls_attention' of the exported graphs differs from PyTorch"):
        export_bundle(settings(model), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(
    bundle: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_image_encoder", stored(bundle / IMAGE_ENCODER))
    monkeypatch.setattr(export, "export_text_encoder", interrupt)
    arguments = ["bundle", "--backbone", str(model), "--output", str(tmp_path / "bundle")]
    weights = [word for name in ("backbone-weights", "text-weights", "projection") for word in (f"--{name}", "random")]
    assert main([*arguments, *weights]) == 130
    assert list(tmp_path.iterdir()) == []


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("t2d-export: error: ")
    return line


def test_an_existing_folder_is_never_replaced_unasked(
    bundle: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    for output, message in ((tmp_path / "mine", "exists and is not a bundle"), (bundle, "add --overwrite")):
        assert main(["bundle", "--backbone", str(model), "--output", str(output)]) == 2
        assert message in one_line(capsys)
    assert main(["bundle", "--backbone", str(model), "--output", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_an_output_that_cannot_become_a_folder_is_told_before_any_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "export_bundle", None)  # the work
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    for output, message in (
        ("file", "cannot write file: Not a directory; a file stands where a folder is expected"),
        ("loop", "links of this name lead in a circle; choose another name"),
        ("dangling", "dangling is a link to a folder that does not exist; choose another --output"),
        ("a" * 300, "File name too long; shorten the name"),
    ):
        assert main(["bundle", "--backbone", str(model), "--output", output]) == 2
        assert message in one_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "loop"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input-size", "57"], "multiple"),
        (["--input-size", "wide"], "input size is 'wide', expected pixels"),
        (["--precision", "fp8"], "fp8"),
        (["--backbone", "dinov9"], "dinov9"),
        (["--projection", "nowhere.pth"], "nowhere.pth"),
        (["--threshold", "1.5"], "threshold is 1.5, expected a number from 0 to 1"),
        (["--threshold", "nan"], "threshold is nan, expected a number from 0 to 1"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    arguments = {"--backbone": str(model), "--output": str(tmp_path / "bundle")}
    arguments |= dict.fromkeys(["--backbone-weights", "--text-weights", "--projection"], "random")
    arguments |= {options[0]: options[1]}
    assert main(["bundle", *(word for pair in arguments.items() for word in pair)]) == 2
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_projection_of_another_width_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(
        {
            "linear_layer.weight": torch.zeros(768, 512),
            "linear_layer.bias": torch.zeros(768),
            "hidden_layers.0.weight": torch.zeros(768, 768),
            "hidden_layers.0.bias": torch.zeros(768),
        },
        tmp_path / "projection.pth",
    )
    arguments = ["bundle", "--backbone", str(model), "--backbone-weights", "random", "--text-weights", "random"]
    arguments += ["--projection", str(tmp_path / "projection.pth"), "--output", str(tmp_path / "bundle")]
    assert main(arguments) == 2
    line = one_line(capsys)
    assert "768" in line
    assert "64" in line


def test_verify_stores_the_report_and_fails_with_status_1(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "passed: every stage" in capsys.readouterr().out
    monkeypatch.setattr("t2d_runtime.proof.selftest.refine", lambda image, planes, settings: planes)
    before = (bundle / "manifest.json").read_text()
    try:
        assert main(["verify", str(bundle)]) == 1
        assert "FAILED: refined is the first stage out of tolerance" in capsys.readouterr().out
        assert any(stage["stage"] == "refined" and not stage["passed"] for stage in stored_parity(bundle))
    finally:
        (bundle / "manifest.json").write_text(before)


def test_verify_wants_every_stage(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / TOKENIZER).unlink()
    before = (copy / "manifest.json").read_text()
    assert main(["verify", str(copy)]) == 2
    assert f"{TOKENIZER} is missing" in one_line(capsys)
    assert (copy / "manifest.json").read_text() == before


def stored_parity(bundle: Path) -> list[dict[str, object]]:
    parity: list[dict[str, object]] = json.loads((bundle / "manifest.json").read_text())["parity"]
    return parity


def test_input_sizes_are_height_by_width() -> None:
    assert parse_input_size("448") == (448, 448)
    assert parse_input_size("448x672") == (448, 672)
    with pytest.raises(OptionError, match="expected pixels such as 448"):
        parse_input_size("448x")


def test_calibration_images_without_int8_are_an_error_before_any_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(settings(model), calibration=tmp_path)
    with pytest.raises(OptionError, match="has no effect without int8; add int8 to --precision"):
        export_bundle(asked, tmp_path / "bundle")
    command = ["bundle", "--backbone", str(model), "--calibration", str(tmp_path), "--precision", "fp32,fp16"]
    assert main([*command, "--output", str(tmp_path / "bundle")]) == 2
    assert "no effect without int8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_export_s_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    """Its telemetry keeps an identity of the device in the home folder."""
    unset = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in unset} | {"HOME": str(tmp_path)}
    code = "import sys, t2d_export.export; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
