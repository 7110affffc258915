"""`python -m benchmarks report`: reads the result files and writes the page."""

from __future__ import annotations

import argparse

from t2d_runtime.storage.whole_file import whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks report`."""
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where the README is stale")


def run(args: argparse.Namespace) -> int:
    """Write the README's table, report.html and report.md from the result files; or check the README."""
    from benchmarks.report.page import to_html, to_markdown
    from benchmarks.report.readme import README, table, with_table
    from benchmarks.report.results import RESULTS, Results
    from benchmarks.report.sections import page

    results = Results()
    text = README.read_text(encoding="utf-8")
    updated = with_table(text, table(results))
    if args.check:
        print("README.md is up to date" if updated == text else "README.md is stale: python -m benchmarks report")
        return int(updated != text)
    sections = page(results)
    files = {
        README: updated,
        RESULTS / "report.html": to_html(sections),
        RESULTS / "report.md": to_markdown(sections, RESULTS),
    }
    for path, content in files.items():
        with whole_file(path) as file:
            file.write(content.encode())
        print(path)
    return 0
