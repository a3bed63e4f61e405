"""Calibration of INT8 engines (to come)."""
