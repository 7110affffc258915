"""`python -m benchmarks pipeline`: the runtime against PyTorch, a row for every bar that it has to clear.

`command` chooses and prints rows, `rows` says what a row is, `setup` holds what they share; the other modules measure.
"""

from benchmarks.pipeline.command import add_arguments, run

__all__ = ["add_arguments", "run"]
