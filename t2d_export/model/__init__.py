"""The PyTorch model and reference: towers, projection, masks."""
