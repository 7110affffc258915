"""Results and the options that made them: label maps, overlays, files."""
