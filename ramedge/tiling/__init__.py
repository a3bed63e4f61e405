"""Exact tiles: grid, halos, planner, execution, channel statistics."""
