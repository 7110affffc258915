"""Trains the rows of a table on one feature set with the same seeds, and measures them in the same way.

Retrieval is measured on validation features. Other measurements are a command that runs on every row's exported bundle
and writes its figures as JSON, so that training does not depend on them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2d_export.export import ExportSettings, export_bundle
from t2d_runtime.errors import DataError, OptionError, OutputError, T2DError
from training.config import TrainConfig
from training.evaluation.retrieval import retrieval
from training.evaluation.tables import TABLES, Row
from training.features.feature_set import FeatureSet
from training.folders import check_output_folder
from training.run.train import TrainResult, train
from training.storage import write_text

RESULTS, TABLE = "results.json", "table.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measure:
    """Settings of a row's export and of the command that measures its bundle.

    `command` is split as in a shell and run without one. {bundle} and {json} in it stand for the bundle and the file
    that it must write: an object `figures`, as the project's benchmarks write it. The figures named here are kept.
    Raises OptionError for a command that cannot be split, for other names in braces, and for no figures.
    """

    command: str
    figures: tuple[str, ...]
    model: ExportSettings

    def __post_init__(self) -> None:
        self.words(Path("bundle"), Path("json"))
        if not all(name.strip() for name in self.figures):
            raise OptionError(f"--figures: expected names separated by commas, got {','.join(self.figures)!r}")

    def words(self, bundle: Path, report: Path) -> list[str]:
        """The command's program and arguments for one bundle."""
        try:
            words = [word.format(bundle=bundle, json=report) for word in shlex.split(self.command)]
        except (ValueError, LookupError, AttributeError) as error:
            raise OptionError(
                f"--measure: {self.command!r} cannot be read ({error}); expected matching quotes, and no names in "
                "braces but {bundle} and {json}"
            ) from error
        if not words:
            raise OptionError("--measure: expected a command, got none")
        if words[0] == "python":
            words[0] = sys.executable  # the interpreter of this environment, not that of PATH
        return words


@dataclass(frozen=True)
class RowResult:
    """A row of the table: its changed settings, and its figures by column."""

    row: str
    changes: Mapping[str, Any]
    figures: Mapping[str, float]
    failure: str | None = None
    """The reason why there are no figures; None for a row that was measured."""


def ablate(table: str, base: TrainConfig, measure: Measure | None = None) -> list[RowResult]:
    """Train and measure every row of a table; writes a folder for each, results.json and table.md to `base.output`.

    Rows in results.json, and rows that were trained but not measured, are not trained again. A row that fails is
    reported and has a `failure`; the others go on, and a later call tries it again.
    Raises OptionError for an unknown table, DataError for features that cannot be used, OutputError where a result
    cannot be written, and the error of the first row where every row fails.
    """
    if table not in TABLES:
        raise OptionError(f"expected a table of {', '.join(TABLES)}, got {table!r}")
    for folder in (base.features, base.validation):
        if folder is not None:
            FeatureSet(folder)  # unusable features would fail in every row
    check_output_folder(base.output)
    description = _description(table, base, measure)
    done = _results_in(base.output / RESULTS, description)
    results: list[RowResult] = []
    errors: list[T2DError] = []
    for row, changes in TABLES[table].items():
        if row in done:
            results.append(done[row])
            continue
        logger.info("%s: %s", table, row)
        try:
            results.append(RowResult(row, changes, _figures(row, changes, base, measure)))
        except OutputError:
            raise
        except T2DError as error:
            logger.warning("%s: %s failed: %s", table, row, error)
            errors.append(error)
            results.append(RowResult(row, changes, {}, str(error)))
        if len(errors) < len(results):
            _save(base.output, description, results)
    if len(errors) == len(results):
        raise errors[0]
    return results


def _figures(row: str, changes: Row, base: TrainConfig, measure: Measure | None) -> dict[str, float]:
    """Train and measure one row."""
    output = base.output / re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
    config = dataclasses.replace(base, **changes, output=output)
    trained = train(config)
    figures = _trained_figures(trained) | _retrieval_figures(config, trained)
    return figures if measure is None else figures | _measured_figures(config, trained, measure)


def markdown_table(results: Sequence[RowResult]) -> str:
    """The results as a table in Markdown, a column for each figure; a row that failed has none."""
    columns = list(dict.fromkeys(column for result in results for column in result.figures))
    lines = ["| |" + "|".join(columns) + "|", "|---|" + "---|" * len(columns)]
    for result in results:
        values = (result.figures.get(column) for column in columns)
        name = result.row if result.failure is None else f"{result.row} (failed)"
        lines.append(f"|{name}|" + "|".join("" if v is None else f"{v:.4g}" for v in values) + "|")
    return "\n".join(lines) + "\n"


def _description(table: str, base: TrainConfig, measure: Measure | None) -> dict[str, Any]:
    """The settings that rows share. Rows of a file with another description are not reused."""
    command = None if measure is None else {"command": measure.command, "model": measure.model.backbone}
    places = {"features": str(base.features), "validation": str(base.validation) if base.validation else None}
    return {"table": table, "settings": base.settings(), **places, "measure": command}


def _results_in(path: Path, description: Mapping[str, Any]) -> dict[str, RowResult]:
    """Rows measured before, by name. Raises DataError for a file that `ablate` did not write."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {key: content[key] for key in description} != description:
            return {}
        rows = [RowResult(**row) for row in content["rows"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} holds no results of 'ablate' ({error!r}); move it, or name another --output"
        ) from error
    return {result.row: result for result in rows if result.failure is None}


def _save(output: Path, description: Mapping[str, Any], results: Sequence[RowResult]) -> None:
    content = {**description, "rows": [dataclasses.asdict(result) for result in results]}
    write_text(output / RESULTS, json.dumps(content, indent=1) + "\n")
    write_text(output / TABLE, markdown_table(results))


def _trained_figures(trained: TrainResult) -> dict[str, float]:
    last = trained.history[-1]
    return {"train loss": last.train_loss, "minutes": sum(record.seconds for record in trained.history) / 60}


def _retrieval_figures(config: TrainConfig, trained: TrainResult) -> dict[str, float]:
    if config.validation is None:
        return {}
    features = FeatureSet(config.validation)
    found = retrieval(features, trained.projection, "max", average_text=config.text_input == "average")
    return {"text to image R@1": found.text_to_image.recall[1], "image to text R@1": found.image_to_text.recall[1]}


def _measured_figures(config: TrainConfig, trained: TrainResult, measure: Measure) -> dict[str, float]:
    bundle, report = config.output / "bundle", config.output / "measured.json"
    settings = dataclasses.replace(
        measure.model, projection=str(trained.last_path), average_tokens=config.text_input == "average"
    )
    export_bundle(settings, bundle, overwrite=True)
    words = measure.words(bundle, report)
    report.unlink(missing_ok=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataError(f"--measure: {words[0]} cannot be run ({error})") from error
    if done.returncode or not report.is_file():
        reason = (done.stderr.strip().splitlines() or [f"it wrote no {report}"])[-1]
        raise DataError(f"--measure failed with exit status {done.returncode}: {reason}")
    try:
        content = dict(json.loads(report.read_text(encoding="utf-8"))["figures"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"--measure: expected an object with 'figures' in {report}, got {error!r}") from error
    missing = [name for name in measure.figures if not isinstance(content.get(name), int | float)]
    if missing:
        raise DataError(f"--figures: {report} has no numbers {missing}, it has {sorted(content)}")
    return {name: float(content[name]) for name in measure.figures}
