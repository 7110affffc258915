"""A bundle behind a server: `t2d serve` in this folder, which needs the extra `serve`, and Triton's models."""
