"""`parity`: every stage, compared with golden files of the authors' code."""
