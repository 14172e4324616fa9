"""A small classifier with data, and what looks metrics up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.metrics import BUILTIN_METRICS
from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.errors import RecipeError
from graphopt.pipeline.validation import Validation
from graphopt.runtime import open_session
from graphopt.testing import graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.runtime import Session

Array = np.ndarray[Any, Any]

LINEAR = "m (float[N, 8] x) => (float[N, 5] y) <float[8, 5] w> { y = MatMul (x, w) }"
SPECS = {"x": InputSpec("x", ("N", 8), "float32")}


def lookup(name: str) -> Callable[..., float]:
    """Find a metric without a registry."""
    found = {metric.name: metric for metric in BUILTIN_METRICS}
    if name not in found:
        raise RecipeError(f"unknown metric `{name}`")
    return found[name]


def weights(noise: float = 0.0) -> Array:
    random = np.random.default_rng(0)
    exact = random.normal(size=(8, 5))
    return (exact + noise * random.normal(size=(8, 5))).astype(np.float32)


def linear(noise: float = 0.0) -> Session:
    """A classifier that is as wrong as there is noise in its weights."""
    return open_session(graph(LINEAR, w=weights(noise)))


def samples(count: int, seed: int = 1, *, labels: bool = True, wrong: float = 0.1) -> Any:
    """Samples whose labels the exact classifier gets right, but for a share of them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 8)).astype(np.float32)
    y = (x @ weights()).argmax(axis=1)
    off = random.random(count) < wrong
    y[off] = random.integers(0, 5, int(off.sum()))
    return {"x": x, "labels": y} if labels else {"x": x}


def validation(arrays: dict[str, Array], specs: Any = SPECS) -> Validation:
    """Judge on these arrays; calibrated was on something else."""
    other = {k: v[:3] + 1 for k, v in arrays.items() if k != "labels"}
    return Validation(open_dataset(arrays, specs), open_dataset(other, specs))
