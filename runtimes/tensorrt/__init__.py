"""TensorRT and TensorRT-RTX: build, cache and run engines on an NVIDIA GPU."""
