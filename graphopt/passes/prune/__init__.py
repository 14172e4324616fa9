"""Fewer channels, heads, branches and weights, and the accuracy back without labels."""
