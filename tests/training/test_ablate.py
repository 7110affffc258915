"""A table's rows: trained with the same seeds, exported, measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from t2d_export.export import ExportSettings
from t2d_runtime.errors import DataError, NotFiniteError, OptionError
from training.__main__ import main
from training.config import TrainConfig
from training.evaluation import ablate as ablate_module
from training.evaluation.ablate import Measure, ablate
from training.evaluation.tables import TABLES

FOLDER = ExportSettings("folder")
GOOD = '{{"figures": {{"x": 1}}}}'


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_every_table_is_a_valid_run(table):
    for changes in TABLES[table].values():
        TrainConfig(features=Path(), output=Path(), **changes)
    assert next(iter(TABLES[table].values())) == {}, "the first row is the published one"


def test_rows_are_trained_measured_and_saved(small_features, tmp_path, capsys, monkeypatch):
    """Through the command line; exporting is the export's own, here only what it is asked for counts."""
    exported = []
    monkeypatch.setattr(
        ablate_module, "export_bundle", lambda settings, output, overwrite: exported.append((settings, output))
    )
    measure = tmp_path / "measure.py"
    measure.write_text(
        "import json, sys\n"
        "open(sys.argv[2], 'w').write(json.dumps({'figures': {'miou': len(sys.argv[1]), 'name': 'x'}}))\n"
    )
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--validation", str(small_features)]
    arguments += ["--output", str(tmp_path / "table"), "--epochs", "1", "--batch-size", "32", "--seed", "5"]
    arguments += ["--measure", f"python {measure} {{bundle}} {{json}}", "--figures", "miou", "--backbone", "folder"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "table" / "results.json").read_text())
    assert [row["row"] for row in content["rows"]] == list(TABLES["losses"])
    assert content["settings"]["seed"] == 5
    assert content["rows"][1]["changes"] == {"loss": "triplet"}
    for row, (settings, bundle) in zip(content["rows"], exported, strict=True):
        assert row["figures"]["miou"] == len(str(bundle))
        assert 0 <= row["figures"]["text to image R@1"] <= 1
        assert settings.backbone == "folder"
        assert Path(settings.projection).name == "projection.pth"
    assert printed == (tmp_path / "table" / "table.md").read_text()
    assert printed.count("\n") == 2 + len(TABLES["losses"])

    monkeypatch.setattr(ablate_module, "train", lambda config: pytest.fail("a finished row was trained again"))
    assert main(arguments) == 0
    assert capsys.readouterr().out == printed


def test_rows_of_averaged_texts_are_exported_so(small_features, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ablate_module, "TABLES", {"one": {"row": {"text_input": "average"}}})
    monkeypatch.setattr(ablate_module, "export_bundle", lambda settings, output, overwrite: asked.append(settings))
    base = TrainConfig(features=small_features, output=tmp_path / "table", epochs=1, batch_size=32)
    script = tmp_path / "measure.py"
    script.write_text("import sys\nopen(sys.argv[1], 'w').write(sys.argv[2])\n")
    result = ablate("one", base, Measure(f"{sys.executable} {script} {{json}} '{GOOD}'", ("x",), FOLDER))
    assert asked[0].average_tokens
    assert result[0].figures["x"] == 1.0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python -c 'import sys; sys.exit(\"no such bundle\")'", "exit status 1: no such bundle"),
        ("python -c pass", "it wrote no"),
        ("/no/such/program {bundle}", "cannot be run"),
        ('python -c \'import sys; open(sys.argv[1], "w").write("[]")\' {json}', "expected an object with 'figures'"),
    ],
)
def test_a_measuring_command_that_fails(small_features, tmp_path, monkeypatch, command, message):
    monkeypatch.setattr(ablate_module, "export_bundle", lambda *arguments, **options: None)
    base = TrainConfig(features=small_features, output=tmp_path / "table", epochs=1, batch_size=32)
    with pytest.raises(DataError, match=message):
        ablate("losses", base, Measure(command, ("x",), FOLDER))


def test_a_row_that_fails_lets_the_others_go_on(small_features, tmp_path, capsys, caplog, monkeypatch):
    def failing(config):
        if config.loss == "triplet" and fails:
            raise NotFiniteError("the loss is nan")
        return trained(config)

    fails, trained = True, ablate_module.train
    monkeypatch.setattr(ablate_module, "train", failing)
    output = tmp_path / "table"
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--output", str(output)]
    arguments += ["--epochs", "1", "--batch-size", "32"]
    assert main(arguments) == 1
    assert "losses: triplet, hardest negative failed: the loss is nan" in caplog.messages
    assert caplog.messages[-1] == "1 of 2 rows failed; the same command tries them again"
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "|triplet, hardest negative (failed)|||"
    assert printed == (output / "table.md").read_text()
    rows = json.loads((output / "results.json").read_text())["rows"]
    assert [row["failure"] for row in rows] == [None, "the loss is nan"]
    fails = False
    assert main(arguments) == 0
    assert "failed" not in capsys.readouterr().out


def test_rows_that_all_fail(small_features, tmp_path, monkeypatch):
    def failing(config):
        raise NotFiniteError("the loss is nan")

    monkeypatch.setattr(ablate_module, "train", failing)
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--output", str(tmp_path / "table")]
    assert main(arguments) == 1
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("content", ["mine", "[]", '{"mine": 1}', '{"table": "losses"}'])
def test_a_file_of_others_is_left_alone(small_features, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError, match="holds no results of 'ablate'"):
        ablate("losses", TrainConfig(features=small_features, output=tmp_path, epochs=1))
    assert (tmp_path / "results.json").read_text() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figures", "miou"], "--figures has no effect without --measure"),
        (["--backbone", "x"], "--backbone has no effect without --measure"),
        (["--model", "x"], "--backbone has no effect without --measure"),
        (["--text-weights", "x"], "--text-weights has no effect without --measure"),
        (["--measure", "", "--figures", "x", "--backbone", "y"], "--measure: expected a command, got none"),
        (["--measure", "a 'b", "--figures", "x", "--backbone", "y"], "No closing quotation"),
        (["--measure", "a {where}", "--figures", "x", "--backbone", "y"], "no names in braces but {bundle} and {json}"),
        (["--measure", "a {0}", "--figures", "x", "--backbone", "y"], "no names in braces but {bundle} and {json}"),
        (["--measure", "a", "--figures", "x,", "--backbone", "y"], "--figures: expected names separated by commas"),
    ],
)
def test_bad_measures(small_features, tmp_path, capsys, options, message):
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--output", str(tmp_path / "table")]
    assert main([*arguments, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "table").exists()


def test_bad_requests(small_features, tmp_path, capsys):
    base = TrainConfig(features=small_features, output=tmp_path / "table")
    with pytest.raises(OptionError, match="expected a table of heads"):
        ablate("nothing", base)
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--output", str(tmp_path / "table")]
    assert main([*arguments, "--measure", "python -c pass"]) == 2
    assert "--measure takes --backbone" in capsys.readouterr().err
