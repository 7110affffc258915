"""PAMR, pixel-adaptive mask refinement, and the inner loops that compute it."""
