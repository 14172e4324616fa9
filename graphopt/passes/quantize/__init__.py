"""Passes that store and compute numbers in fewer bits."""
