"""Passes that win back the accuracy that fewer bits cost; no labels, no training framework."""
