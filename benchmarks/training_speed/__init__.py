"""`training_speed`: an epoch of training against the released way."""
