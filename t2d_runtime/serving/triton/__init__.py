"""A model repository for NVIDIA's Triton Inference Server, and the model that its Python backend runs."""
