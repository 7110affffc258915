"""Contenders of a comparison: PyTorch as released and plain, encoders, and the machine's limit."""
