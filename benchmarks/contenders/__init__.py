"""The sides of a comparison: PyTorch as released and plain, encoders, the machine's floor."""
