"""`t2d serve`: a bundle behind HTTP. Everything here needs the extra `serve`."""
