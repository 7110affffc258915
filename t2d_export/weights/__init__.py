"""Weights: checkpoint files, key layouts, the hub, random draws."""
