"""Talk2DINO to ONNX: the PyTorch reference, published weights, graphs, verification."""
