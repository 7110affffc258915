"""Backbones by name, models from a folder, position embeddings."""
