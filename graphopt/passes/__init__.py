"""The passes that ship with graphopt, one transformation per file."""
