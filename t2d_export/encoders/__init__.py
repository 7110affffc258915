"""The encoders' graphs: tracing, ONNX, precisions, calibration."""
