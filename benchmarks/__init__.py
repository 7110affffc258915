"""Latency, parity and accuracy: `python -m benchmarks COMMAND`."""
