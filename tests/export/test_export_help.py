"""The help of `t2d-export`, docs/export.md and the code say the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import t2d_export
from t2d_export import cli, export
from t2d_export.architectures.backbones import ARCHITECTURES
from t2d_export.weights.published import BACKBONES
from t2d_runtime.bundle.manifest import SCHEMA_VERSION
from t2d_runtime.cli import main as t2d
from t2d_runtime.commands import running
from t2d_runtime.proof.parity import GATES

ROOT = Path(__file__).resolve().parents[2]


def text() -> str:
    return (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def rows(*firsts: str) -> list[list[str]]:
    """Cells of the table rows whose first cell is one of these."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text().splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0].strip("`") in firsts]


def test_the_help_names_every_backbone() -> None:
    assert tuple(ARCHITECTURES) == cli.BACKBONES


def test_the_page_tells_every_backbone_as_it_is() -> None:
    told = {name.strip("`"): rest for name, *rest in rows(*ARCHITECTURES)}
    assert told == {
        name: [
            str(one.patch_size),
            str(one.threshold),
            f"`{BACKBONES[name].repository}`" if name in BACKBONES else "none",
        ]
        for name, one in ARCHITECTURES.items()
    }


def test_the_page_tells_the_limits_as_they_are() -> None:
    assert rows(*GATES) == [
        [name, f"{gates.relative_frobenius:g}", f"{gates.scores:g}", f"{gates.label_agreement:.1%}"]
        for name, gates in GATES.items()
    ]
    assert f"The schema version is {SCHEMA_VERSION}." in text()


def test_the_front_hands_out_the_export() -> None:
    assert t2d_export.export_bundle is export.export_bundle
    assert t2d_export.ExportSettings is export.ExportSettings
    assert dir(t2d_export) == ["ExportSettings", "export_bundle"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = t2d_export.nothing


@pytest.mark.parametrize("main", [cli.main, t2d])
def test_both_programs_list_all_their_exit_statuses(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out.partition("Exit status:")[2]
    statuses = (running.FAILED_CHECK, running.NOTHING_DONE, running.INTERRUPTED, running.PIPE_CLOSED)
    assert [int(number) for number in re.findall(r"\d+", said)] == [0, *statuses, running.TERMINATED]


@pytest.mark.parametrize(
    "arguments", [["-v", "verify", "bundle"], ["verify", "bundle", "-v"], ["verify", "bundle"]], ids=" ".join
)
def test_verbose_is_taken_before_and_after_the_command(arguments: list[str]) -> None:
    assert cli.build_parser().parse_args(arguments).verbose is ("-v" in arguments)
