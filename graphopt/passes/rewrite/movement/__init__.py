"""The parts of merge-data-movement: where elements come from, and the shortest way there."""
