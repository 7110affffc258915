"""Label maps against each other and against the truth: label files, IoU, comparison, good words and thresholds."""
