"""A target that is nobody's, for look-ups."""

from __future__ import annotations

from graphopt.targets.base import Compute, Memory, QuantizationRules, Target


def make_target(name: str, *aliases: str) -> Target:
    return Target(
        name=name,
        summary="A board.",
        runtime="none",
        provider="",
        isa=(),
        quantization=QuantizationRules(),
        compute=Compute(1.0, 1, {"float32": 1.0}, {"float32.default": 0.5}),
        memory=Memory(1024, 1.0, 1.0),
        uncertainty=0.5,
        sources={},
        aliases=aliases,
    )
