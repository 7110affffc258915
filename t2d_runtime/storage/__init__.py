"""Files: written whole, strict JSON, the user's cache, compiled models."""
