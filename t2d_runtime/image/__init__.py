"""Pictures: read, resized, normalised, cut into windows."""
