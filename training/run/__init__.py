"""A training run: loop, optimiser, checkpoints, logs, report."""
