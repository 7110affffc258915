"""Scores, cleaning, upsampling, PAMR and labels on an NVIDIA GPU: the kernels of `masks.cu` and what launches them."""
