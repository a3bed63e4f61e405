"""ONNX Runtime: what the gate runs ONNX files with."""
