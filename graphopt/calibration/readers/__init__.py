"""Readers: one file for each form in which data comes on disk."""
