"""Sinks: where the frames of a stream are written."""
