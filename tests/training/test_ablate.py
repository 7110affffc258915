"""A table's rows: trained with the same seeds, exported, measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from t2d_export.export import ExportSettings
from t2d_runtime.errors import DataError, OptionError
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
    arguments += ["--measure", f"python {measure} {{bundle}} {{json}}", "--figures", "miou", "--model", "folder"]
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


def test_bad_requests(small_features, tmp_path, capsys):
    base = TrainConfig(features=small_features, output=tmp_path / "table")
    with pytest.raises(OptionError, match="expected a table of heads"):
        ablate("nothing", base)
    arguments = ["ablate", "--table", "losses", "--features", str(small_features), "--output", str(tmp_path / "table")]
    assert main([*arguments, "--measure", "python -c pass"]) == 2
    assert "--measure takes --model" in capsys.readouterr().err
