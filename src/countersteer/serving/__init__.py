"""Trained policies in other programs: as ONNX files, and as drivers of other simulators."""
