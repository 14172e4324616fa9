"""Plans of micro-models: what one unit of a chain is, and how the models of a class are named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.micro import Micro, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from graphopt.cost.profiling.builder import Builder, Flow, Precision
    from graphopt.cost.profiling.shapes import ConvShape

Plan = tuple[tuple[tuple[int, ...], ...], Unit]
"""Sizes of the inputs of a chain, and what one unit of it is."""

FAVOURED: dict[Precision, str] = {"u8s8": "x86", "s8s8": "arm"}
"""Which machines compute fastest in which integers; others get a sample of these models."""

NEAR_ONE = frozenset({"Sqrt", "Div", "Pow"})
"""Classes whose inputs are close to 1."""


def favoured(models: Iterable[Micro], machines: str) -> Iterator[Micro]:
    """Keep one integer model in three for all machines, the others for those that want them."""
    for index, model in enumerate(models):
        yield model if index % 3 == 0 else replace(model, machines=machines)


def only(models: Iterable[Micro], machines: str) -> Iterator[Micro]:
    """Keep models for the machines that want them."""
    return (replace(model, machines=machines) for model in models)


def numbered(
    name: str,
    precision: Precision,
    units: Sequence[Plan],
    *,
    is_fan: bool = False,
    every: int = 4,
) -> list[Micro]:
    """Name the models of one class; one in ``every`` is measured with several threads too."""
    return [
        Micro(
            f"{name}/{precision}/{i}", precision, inputs, unit, is_fan,
            parallel=i % every == 0, near_one=name in NEAR_ONE,
        )
        for i, (inputs, unit) in enumerate(units)
    ]  # fmt: skip


def image(channels: int, size: int) -> tuple[int, ...]:
    """Return the sizes of a square image."""
    return (1, channels, size, size)


def there_and_back(s: ConvShape) -> Plan:
    """Return a convolution, and another back where the number of channels changes."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.conv(b, flows[0], s.outputs, s.kernel, groups=s.groups, activation="Relu")
        if s.inputs == s.outputs:
            return made
        return op.conv(b, made, s.inputs, s.kernel, groups=s.groups)

    return (image(s.inputs, s.size),), unit


def strided(s: ConvShape) -> Plan:
    """Return a convolution of stride 2 and what enlarges its result again."""
    size = s.size // 2 * 2

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.conv(b, flows[0], s.outputs, s.kernel, 2, s.groups, "Relu")
        return op.resize(b, made, 2)

    return (image(s.inputs, size),), unit
