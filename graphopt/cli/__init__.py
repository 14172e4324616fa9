"""The command line: it parses, calls ``graphopt.api``, and prints what comes back."""
