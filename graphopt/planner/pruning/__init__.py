"""How much of each layer is to go, so that the model gets as fast as asked and loses least."""
