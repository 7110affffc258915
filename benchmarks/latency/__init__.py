"""`latency`: milliseconds of a bundle against PyTorch."""
