"""Weights in few bits, block by block, with activations left in float."""
