"""Training: photos, recipes, checkpoints and the loop."""
