"""Calibration: datasets, observers, and one streaming run from the first to the second."""
