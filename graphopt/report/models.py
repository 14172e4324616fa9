"""What is said of one model, and what there is to warn of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFacts:
    """A model in numbers."""

    path: str
    nodes: int
    parameters: int
    size_bytes: int
    opset: int
    digest: str


@dataclass(frozen=True)
class Notice:
    """Something the user should know: a warning with code and hint."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class PortFacts:
    """One input or output of a model: ``shape`` as declared, ``dtype`` as a numpy name."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class ModelSummary:
    """What ``inspect`` tells about a model; ``operators`` counts nodes by operator.

    ``weights`` is bytes by element type, such as ``{"float32": 1024, "int8": 512}``.
    """

    facts: ModelFacts
    inputs: tuple[PortFacts, ...]
    outputs: tuple[PortFacts, ...]
    operators: dict[str, int]
    weights: dict[str, int]
    notices: tuple[Notice, ...] = ()
