"""What an exported model is on disk."""
