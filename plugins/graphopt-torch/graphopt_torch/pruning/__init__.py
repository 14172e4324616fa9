"""Channels that go while the model is trained: gates on units, what they are worth, what is cut."""
