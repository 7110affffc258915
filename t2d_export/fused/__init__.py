"""The fused graph: picture and word vectors to labels in one ONNX file."""
