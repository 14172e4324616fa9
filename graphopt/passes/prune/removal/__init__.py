"""Take coupled units out of a graph, and prove that nothing else changed."""
