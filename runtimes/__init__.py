"""What runs a network: PyTorch, OpenVINO."""
