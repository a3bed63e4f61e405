"""The network of the paper and the attention mechanisms it is compared with."""
