"""Command lines of `python -m training`. At their top they import no torch, so that `--help` answers at once."""
