"""What passes look for in a graph, and what they add to it."""
