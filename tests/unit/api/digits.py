"""How well a model reads the shipped digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt import ir


def accuracy(model: ir.Graph, path: Path) -> float:
    """Return the share of the digits in a file that a model reads right."""
    with np.load(path) as data:
        feeds, labels = data["input"], data["labels"]
    session = open_session(model)
    found = [session.run({"input": x[None]})[0].argmax() for x in feeds]
    return float(np.mean(np.array(found) == labels))
