"""Training of the projection: features, losses, the training loop, retrieval, ablations; `python -m training`."""
