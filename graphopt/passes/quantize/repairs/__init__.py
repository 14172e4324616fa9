"""The repairs of repair-qdq, one topic a file; each returns the nodes that it mended."""
