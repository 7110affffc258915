"""`python -m benchmarks report`: all result files as one page, in HTML and Markdown, and the README's table.

`sections` says what the page holds in the blocks of `blocks`; `html_page` and `markdown_page` write them.
"""

from benchmarks.report.command import add_arguments, run

__all__ = ["add_arguments", "run"]
