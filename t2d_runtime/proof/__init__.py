"""Proof of an engine: measures of parity, the self-test, remembered verdicts."""
