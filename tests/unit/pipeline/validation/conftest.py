"""Guards on a small classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from graphopt.pipeline.validation import open_guard
from graphopt.recipe import Limits
from tests.unit.pipeline.validation.classifier import linear, lookup, samples, validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.pipeline.validation import Guard


@pytest.fixture(scope="module")
def guarded() -> Callable[..., Guard]:
    """Return what opens a guard on the linear classifier."""

    def open_it(
        count: int = 400, *, labels: bool = True, drop: str | float | None = "1%", **limits: Any
    ) -> Guard:
        given = validation(samples(count, labels=labels))
        return open_guard(Limits(max_drop=drop, **limits), lookup, given, linear())

    return open_it
