"""Passes and observers with options of every kind, as a plugin author writes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Criterion(enum.Enum):
    L1 = "l1"
    TAYLOR = "taylor"


class Width(enum.IntEnum):
    INT4 = 4
    INT8 = 8


@dataclass(frozen=True)
class Schedule:
    warm_up: int = 0
    rate: float = 1.0


@dataclass(frozen=True)
class PruneChannels:
    name: ClassVar[str] = "prune-channels"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    sparsity: float = field(default=0.5, metadata={"minimum": 0})
    max_channels: int | None = None
    exclude: tuple[str, ...] = ()
    criterion: Criterion = Criterion.L1
    width: Width = Width.INT8
    mode: Literal["once", "gradual"] = "once"
    tile: tuple[int, int] = (1, 1)
    bits: Mapping[str, int] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    table: Path | None = None
    extra: Any = None
    enabled: bool = True
    ops: frozenset[str] = frozenset()
    size: int | tuple[int, int] = 1

    def __post_init__(self) -> None:
        if self.sparsity == 0.75:
            raise ValueError("three quarters is too round")


@dataclass(frozen=True)
class FoldConstants:
    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.EXACT
    max_bytes: int = 1024


@dataclass(frozen=True)
class Calibrate:
    name: ClassVar[str] = "calibrate"
    effect: ClassVar[Effect] = Effect.EXACT


@dataclass(frozen=True)
class NeedsAnswer:
    name: ClassVar[str] = "needs-answer"
    answer: int


@dataclass(frozen=True)
class Unresolvable:
    name: ClassVar[str] = "unresolvable"
    value: Nowhere = None  # noqa: F821


@dataclass(frozen=True)
class MinMax:
    name: ClassVar[str] = "min-max"


@dataclass(frozen=True)
class Percentile:
    name: ClassVar[str] = "percentile"
    percentile: float = 99.99


@pytest.fixture
def passes() -> dict[str, type[Any]]:
    classes = (PruneChannels, FoldConstants, Calibrate, NeedsAnswer, Unresolvable)
    return {kind.name: kind for kind in classes}


@pytest.fixture
def observers() -> dict[str, type[Any]]:
    return {kind.name: kind for kind in (MinMax, Percentile)}
