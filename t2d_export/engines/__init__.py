"""Engines built ahead of time: TensorRT, TensorRT for RTX, OpenVINO."""
