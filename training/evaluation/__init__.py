"""Evaluation of projections: retrieval and ablation tables."""
