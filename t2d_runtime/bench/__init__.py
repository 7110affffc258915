"""Measurements on a device without PyTorch: stages, first mask, memory."""
