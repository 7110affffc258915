"""The machine at hand: its processor, GPU driver, name, clocks."""
