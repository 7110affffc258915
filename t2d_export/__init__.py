"""Talk2DINO to ONNX: the PyTorch reference, published weights, graphs, verification."""

import os

# ONNX Runtime reports usage to its makers unless this is set before its first import, which is the quantisation's here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
