"""The parts of the `t2d` commands."""
