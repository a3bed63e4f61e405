"""Speed, memory and quality of every way to run the network, side by side."""
