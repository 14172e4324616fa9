"""Which weights become 0, and what the others become."""
