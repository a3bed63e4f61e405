"""PyTorch: the reference."""
