"""Command lines of `python -m training`. They import torch only when they run, so that `--help` answers at once."""
