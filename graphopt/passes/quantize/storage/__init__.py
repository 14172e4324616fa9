"""Weights as they lie in a file: in fewer bits than they are computed with."""
