"""The bundle: its manifest, its files, the engines inside it."""
