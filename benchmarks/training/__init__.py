"""`training`: speed of training, compared with the released code, and of feature extraction."""
