"""Criteria that say which units of a group matter least; one a file."""
