"""Time and memory of the shapes that results are turned into."""
