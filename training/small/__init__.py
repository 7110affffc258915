"""The small model: towers trained from scratch on drawn scenes, and a projection on top of them."""
