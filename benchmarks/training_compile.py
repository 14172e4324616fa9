"""Run graphopt's command line with another seed: `python training_compile.py SEED ARGUMENT...`.

A compile draws all that it draws from one seed, which users need not choose; figures over several
seeds need to.
"""

from __future__ import annotations

import sys

import graphopt.api.setup
from graphopt.cli.main import main

if __name__ == "__main__":
    graphopt.api.setup.SEED = int(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
