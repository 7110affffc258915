"""Shapes made from label maps: run-length codes, polygons, connected parts. Each is made in one pass for all labels."""
