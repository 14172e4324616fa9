"""Fixtures that live as long as a hypothesis test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt.targets import builtin_targets

if TYPE_CHECKING:
    from graphopt.targets import Target


@pytest.fixture(scope="session")
def all_targets() -> dict[str, Target]:
    return {target.name: target for target in builtin_targets()}
