"""The command `t2d` as its users call it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.bundle.manifest import sealed
from t2d_runtime.cli import main
from t2d_runtime.commands.command_line import COMMANDS, EXAMPLES, build_parser
from t2d_runtime.opening import FAST
from t2d_runtime.proof.parity import PRECISIONS
from tests.runtime.conftest import own_lines


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "coffee.jpg"
    Image.fromarray(data.coffee()).save(path)
    return path


def segment(bundle: Path, image: Path, *options: str) -> int:
    return main(["segment", str(bundle), str(image), "--backend", "onnxruntime", *options])


def test_segment_writes_every_format(
    exported_bundle: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ["--classes", "sea, snow,tree", "--background", "--threshold", "0.5", "--refine"]
    formats = "overlay, PNG,grey,npz,scores,json,"
    assert segment(exported_bundle, photograph, *options, "--format", formats, "--output", str(output)) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "coffee.grey.png",
        "coffee.json",
        "coffee.labels.png",
        "coffee.npz",
        "coffee.overlay.png",
        "coffee.scores.npz",
    ]
    archive = np.load(output / "coffee.npz")
    assert archive["label_map"].shape == (400, 600)
    assert list(archive["class_names"]) == ["background", "sea", "snow", "tree"]
    assert "scores" not in archive
    scores = np.load(output / "coffee.scores.npz")
    assert (scores["scores"].shape, scores["scores"].dtype) == ((3, 400, 600), np.float16)
    assert list(scores["class_names"]) == ["sea", "snow", "tree"]
    for name in ("coffee.labels.png", "coffee.grey.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(output / name)), archive["label_map"])
    summary = json.loads((output / "coffee.json").read_text())
    assert summary["settings"]["threshold"] == 0.5
    assert sum(label["pixels"] for label in summary["labels"]) == 400 * 600
    for label in summary["labels"]:
        mask = archive["label_map"] == label["label"]
        assert label["pixels"] == mask.sum()
        if label["pixels"]:
            left, top, right, bottom = label["box"]
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top, left:right].any()
            assert mask[top:bottom, right - 1].any()
    assert "coffee.jpg: 600 x 400 pixels" in capsys.readouterr().out


def test_words_come_from_a_file_and_prompts_too(exported_bundle: Path, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("sea\n\n snow \n")
    (tmp_path / "prompts.txt").write_text("a drawing of a {}.\n")
    options = ["--classes-file", str(tmp_path / "words.txt"), "--prompts", str(tmp_path / "prompts.txt")]
    assert segment(exported_bundle, photograph, *options, "--format", "json", "--output", str(tmp_path)) == 0
    labels = json.loads((tmp_path / "coffee.json").read_text())["labels"]
    assert [label["name"] for label in labels] == ["sea", "snow"]


def test_a_vocabulary_replaces_the_text_encoder(exported_bundle: Path, photograph: Path, tmp_path: Path) -> None:
    words = str(tmp_path / "words.npz")
    assert main(["classes", str(exported_bundle), "--classes", "sea,snow", "--output", words]) == 0
    for name, options in {"a": ["--vocabulary", words], "b": ["--classes", "sea,snow"]}.items():
        assert segment(exported_bundle, photograph, *options, "--format", "png", "--output", str(tmp_path / name)) == 0
    assert (tmp_path / "a" / "coffee.labels.png").read_bytes() == (tmp_path / "b" / "coffee.labels.png").read_bytes()


def test_info_and_selftest(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(exported_bundle)]) == 0
    told = capsys.readouterr().out
    assert "224 x 224 (height x width)" in told
    assert "parity          12 stages compared with PyTorch at the export, all within their tolerances\n" in told
    assert main(["selftest", str(exported_bundle), "--backend", "onnxruntime"]) == 0
    assert "passed: every stage" in capsys.readouterr().out


def test_info_tells_each_verdict_and_what_is_untested_together(
    bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = {"onnxruntime": ["passed", "as"], "emulation": ["passed", ""]}
    untested = {name: ["untested", "no GPU"] for name in ("tensorrt", "tensorrt-rtx")}
    path = bundle_copy / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["precisions"] = {
        name: {key: {"status": status, "reason": reason} for key, (status, reason) in row.items()}
        for name, row in {"fp32": verdicts | untested, "fp16": untested}.items()
    }
    path.write_text(sealed(content), encoding="utf-8")
    assert main(["info", str(bundle_copy)]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "verdict         fp32 on onnxruntime: passed (as)",
        "verdict         fp32 in emulation: passed",
        "verdict         fp32, fp16 on tensorrt, tensorrt-rtx: untested (no GPU)",
    ]


def test_info_names_backends_that_open_and_does_not_open_tensorrt(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"onnxruntime": ("onnxruntime",), "tensorrt": ("this",)}
    for name in BACKENDS:
        needed = installed.get(name, ("no_such_module",))
        monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], modules=needed))
    assert main(["info", str(exported_bundle)]) == 0
    assert "backends here   onnxruntime, tensorrt (if 't2d doctor' says so)\n" in capsys.readouterr().out
    assert "this" not in sys.modules


def test_doctor_says_how_to_get_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["onnxruntime", "ready:"] for line in lines)
    assert any(line.split()[:2] == ["onnxruntime-cuda", "no:"] and "pip install '.[gpu]'" in line for line in lines)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("t2d: error: ")
    return lines[0]


def write_text(path: Path) -> None:
    path.write_text("not a picture")


def write_truncated(path: Path) -> None:
    Image.fromarray(data.coffee()).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def write_bomb(path: Path) -> None:
    Image.new("1", (20000, 20000)).save(path, "PNG")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such image file"),
        (lambda path: path.mkdir(), "holds no image"),
        (write_text, "photo.jpg"),
        (write_truncated, "photo.jpg"),
        (write_bomb, "pixels"),
    ],
)
def test_a_bad_image_is_one_line_and_status_2(
    exported_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: object,
    message: str,
) -> None:
    path = tmp_path / "photo.jpg"
    write(path)  # type: ignore[operator]
    output = tmp_path / "out"
    assert segment(exported_bundle, path, "--classes", "sea", "--output", str(output)) == 2
    assert message in one_line(capsys)
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", ""], "class name"),
        (["--classes", "sea, ,sky"], "a blank name"),
        (["--classes", "sea,sky,sea"], "'sea'"),
        (["--classes-file", "nowhere.txt"], "nowhere.txt"),
        (["--classes", ","], "a blank name"),
        (["--classes", "sea", "--prompts", "poems.txt"], "--prompts poems.txt: no such file, nor a prompt set"),
        (["--classes", "sea", "--background", "--threshold", "7"], "threshold is 7.0"),
        (["--classes", "sea", "--threshold", "0.5"], "--threshold has no effect without --background"),
        (["--classes", "sea", "--format", "bmp"], "unknown output format 'bmp', expected some of overlay, png, grey, "),
        (["--classes", "sea", "--format", " , "], "no output format"),
        (["--classes", "sea", "--recursive"], "--recursive has no effect without a folder"),
        (["--classes", "sea", "--cleaning-weight", "2"], "--cleaning-weight has no effect without --cleaning"),
        (["--classes", "sea", "--background", "--cleaning", "off", "--cleaning-weight", "2"], "--cleaning-weight has"),
        (["--classes", "sea", "--background", "--cleaning-weight", "-2"], "cleaning_weight is -2.0"),
        (["--classes", "sea", "--pamr-iterations", "2"], "--pamr-iterations has no effect without --refine"),
        (["--classes", "sea", "--pamr-dilations", "2"], "--pamr-dilations has no effect without --refine"),
        (["--classes", "sea", "--refine", "--pamr-dilations", "2;4"], "whole numbers separated by commas"),
        (["--classes", "sea", "--refine", "--pamr-iterations", "0"], "1 to 1000 iterations"),
        (["--classes", "sea", "--no-legend", "--format", "png"], "--no-legend has no effect without --format overlay"),
        (["--classes", "sea", "--font", "a.ttf", "--no-legend"], "--font has no effect"),
        (["--classes", "sea", "--font", "a.ttf"], "font a.ttf cannot be read: no such file"),
        (["--classes", "sea", "--font", "a" * 300], "cannot be read: its name is too long"),
        (["--classes", "sea", "--precision", "fp8"], "'fp8'"),
        (["--classes", "sea", "--threads", "0"], "num_threads is 0"),
        (["--vocabulary", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    exported_bundle: Path, photograph: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert segment(exported_bundle, photograph, *options) == 2
    assert message in one_line(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs, one broken one and a file that is no image."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index, name in enumerate(["c.png", "a.jpg", "d.JPG"]):
        Image.fromarray(data.coffee()[:, index * 90 :]).save(folder / name)
    write_truncated(folder / "b.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_is_segmented_in_order_without_its_broken_images(
    exported_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, alone = tmp_path / "out", tmp_path / "alone"
    options = ["--classes", "sea,snow,tree", "--background", "--refine"]
    assert segment(exported_bundle, folder, *options, "--output", str(output)) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.startswith("[")]
    assert [line.split(":")[0] for line in lines] == [
        f"[{number}/4] {folder / name}" for number, name in ((1, "a.jpg"), (3, "c.png"), (4, "d.JPG"))
    ]
    assert captured.out.splitlines()[0] == "left out: other files than images (1)"
    assert captured.out.splitlines()[-1].startswith("3 of 4 images segmented in ")
    assert captured.out.splitlines()[-1].endswith("; 1 failed")
    (error,) = captured.err.strip().splitlines()
    assert error.startswith(f"[2/4] {folder / 'b.jpg'} failed: ")
    assert sorted(path.stem.split(".")[0] for path in output.glob("*.json")) == ["a", "c", "d"]
    for name in ("a.jpg", "c.png", "d.JPG"):
        assert segment(exported_bundle, folder / name, *options, "--output", str(alone)) == 0
    for path in output.iterdir():
        assert path.read_bytes() == (alone / path.name).read_bytes()


def test_an_interrupted_folder_leaves_whole_files(
    exported_bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("t2d_runtime.commands.segment.print_segmented", interrupt)
    for index in range(20):
        Image.fromarray(data.coffee()[index:, :]).save(folder / f"e{index}.png")
    output = tmp_path / "out"
    assert segment(exported_bundle, folder, "--classes", "sea", "--format", "png", "--output", str(output)) == 130
    written = sorted(path.name for path in output.iterdir())
    assert "a.labels.png" in written
    assert len(written) < 20
    for path in output.iterdir():
        assert path.suffixes == [".labels", ".png"]
        Image.open(path).load()


def test_an_output_folder_that_cannot_be_made_is_one_line(
    exported_bundle: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    options = ["--classes", "sea", "--output", str(tmp_path / "file" / "out")]
    assert segment(exported_bundle, photograph, *options) == 2
    assert "cannot write" in one_line(capsys)


def test_a_folder_that_is_no_bundle_is_one_line(
    tmp_path: Path, photograph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(tmp_path, photograph, "--classes", "sea") == 2
    assert "is not a bundle" in one_line(capsys)


def test_a_reader_that_has_enough_ends_the_program_quietly(exported_bundle: Path) -> None:
    command = [sys.executable, "-m", "t2d_runtime", "info", str(exported_bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (own_lines(process.stderr.read()), process.wait()) == ([], 141)


def test_a_program_that_is_terminated_leaves_nothing_half_written(tmp_path: Path) -> None:
    source = f"""
import sys, time
from pathlib import Path
from t2d_runtime.commands.running import run_command
from t2d_runtime.storage.whole_file import whole_file

def command():
    with whole_file(Path({str(tmp_path / "result")!r})) as file:
        file.write(b"half")
        print("ready", flush=True)
        time.sleep(60)

sys.exit(run_command("t2d", command))
"""
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().strip() == b"ready"
        assert len(list(tmp_path.iterdir())) == 1
        process.terminate()
        assert (process.stderr.read().strip(), process.wait()) == (b"t2d: terminated", 143)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--output", "--font", "--vocabulary"])
def test_an_empty_path_is_not_the_folder_at_hand(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["segment", "bundle", "a.png", option, ""])
    assert f"argument {option}: expected a path, got an empty text" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["-", "pipe.png"])
def test_a_picture_that_never_comes_does_not_keep_the_program(
    exported_bundle: Path, photograph: Path, tmp_path: Path, name: str
) -> None:
    if os.name != "posix":
        return  # which has the named pipes and the signal
    os.mkfifo(tmp_path / "pipe.png")
    options = ["--classes", "sea", "--backend", "onnxruntime", "--output", "out", "--format", "json"]
    command = [sys.executable, "-m", "t2d_runtime", "segment", str(exported_bundle), str(photograph), name, *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().startswith(b"[1/2]")  # the second one is waited for
        process.terminate()
        try:
            assert process.wait(timeout=300) == 143
        finally:
            process.kill()
        assert [line for line in own_lines(process.stderr.read()) if line] == ["t2d: terminated"]


@pytest.mark.parametrize("arguments", [["-v", "info", "nowhere"], ["info", "nowhere", "-v"], ["info", "nowhere"]])
def test_verbose_is_taken_before_and_after_the_command(arguments: list[str]) -> None:
    assert build_parser().parse_args(arguments).verbose is ("-v" in arguments)


@pytest.mark.parametrize("line", [line for line in EXAMPLES.splitlines() if line.startswith("  t2d ")])
def test_the_examples_of_the_help_are_commands(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_parser().parse_args(shlex.split(line)[1:]).command in COMMANDS
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"{line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["segment", "classes", "selftest", "bench"])
def test_help_lists_every_backend_and_precision(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no name on two lines
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = {word.strip(",;:") for word in capsys.readouterr().out.split()}
    assert shown >= {"auto", *BACKENDS, *PRECISIONS, FAST}
