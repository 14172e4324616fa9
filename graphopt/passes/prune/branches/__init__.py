"""Depth units: leave out a residual branch, or put one linear operator in its place."""
