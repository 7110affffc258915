"""`python -m benchmarks accuracy`: mIoU of a bundle on the published benchmarks, or on any folder with label maps."""

from benchmarks.accuracy.command import add_arguments, run

__all__ = ["add_arguments", "run"]
