"""Memory layouts: where the runtime copies a tensor because two kernels want it differently."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.ir import Value
    from graphopt.targets.base import Target

_FOLLOWERS = {
    "blocked": frozenset(
        {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Add", "Mul", "Sum",
         "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "Concat"}
    ),
    "channels_last": frozenset(
        {"MaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearAdd", "QLinearMul",
         "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "Split", "Resize"}
    ),
}  # fmt: skip
_COPIES = {"blocked": "Reorder", "channels_last": "Transpose"}


@dataclass(frozen=True)
class LayoutCopy:
    """A tensor that is copied into another memory layout before kernel number ``before``."""

    value: Value
    name: str
    before: int


def assign_layouts(
    kernels: Sequence[Kernel], target: Target
) -> tuple[tuple[Kernel, ...], tuple[LayoutCopy, ...]]:
    """Return the kernels with their layouts, and the copies between those that disagree.

    Pools, elementwise operators and concatenations follow when all their inputs are in a layout
    that they support; a tensor is copied once per layout that its readers want. Graph inputs and
    outputs are plain; a copy of an output comes after the last kernel.
    """
    held: dict[Value, str] = {}
    done: set[tuple[Value, str]] = set()
    placed: list[Kernel] = []
    copies: list[LayoutCopy] = []
    for index, given in enumerate(kernels):
        kernel = _following(given, held)
        for value in kernel.reads:
            have = held.get(value, "plain")
            if have != kernel.layout and not _reads_any_layout(value, kernel, target):
                copies.extend(_copy(value, have, kernel.layout, index, done))
        held.update(dict.fromkeys(kernel.writes, kernel.layout))
        placed.append(kernel)
    for value in [v for v in held if v.is_output and held[v] != "plain"]:
        copies.extend(_copy(value, held[value], "plain", len(placed), done))
    return tuple(placed), tuple(copies)


def _following(kernel: Kernel, held: dict[Value, str]) -> Kernel:
    layouts = {held.get(v, "plain") for v in kernel.reads}
    if kernel.layout != "plain" or len(layouts) != 1:
        return kernel
    (layout,) = layouts
    if layout == "plain" or kernel.name not in _FOLLOWERS[layout]:
        return kernel
    if (layout == "channels_last") != (kernel.dtype == "int8"):
        return kernel
    name = "NhwcMaxPool" if (kernel.name, layout) == ("MaxPool", "channels_last") else kernel.name
    return dataclasses.replace(kernel, layout=layout, name=name)


def _reads_any_layout(value: Value, kernel: Kernel, target: Target) -> bool:
    """Whether a kernel takes a tensor as it is: vectors, and few channels into a blocked Conv."""
    shape = dims(value)
    if len(shape) < 3:
        return True
    block = target.compute.alignment.get("float32", 1)
    return kernel.layout == "blocked" and kernel.kind == "conv" and shape[1] < block


def _copy(
    value: Value, have: str, want: str, index: int, done: set[tuple[Value, str]]
) -> list[LayoutCopy]:
    """Return the copies of a tensor that are still missing: through plain when both are special."""
    steps = [(have, "plain"), ("plain", want)] if "plain" not in (have, want) else [(have, want)]
    missing = [(a, b) for a, b in steps if (value, b) not in done]
    done.update((value, b) for _, b in missing)
    return [LayoutCopy(value, _COPIES[a if b == "plain" else b], index) for a, b in missing]
