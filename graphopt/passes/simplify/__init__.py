"""Exact passes that make the graph smaller, or plain enough for the others."""
