"""From weights to artifacts that run without PyTorch."""
