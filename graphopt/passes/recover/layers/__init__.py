"""The parts of the recovering passes: layers, what they read, and what stands between them."""
