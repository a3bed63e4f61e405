"""INT8: calibration pictures, and the audit of quantized models."""
