"""`training`: speed of training against the released way, and of feature extraction."""
