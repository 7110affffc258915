"""`parity`: every stage against golden files of the authors' code."""
