"""`engines`: every precision on every backend."""
