"""The training objective: head selection, losses, exchange between processes."""
