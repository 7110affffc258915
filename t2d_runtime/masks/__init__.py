"""Patch tokens and embeddings to labels: similarity, cleaning, upsampling, refinement."""
