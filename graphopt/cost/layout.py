"""Memory layouts: where the runtime copies a tensor because two kernels want it differently."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.kernels import Kernel
from graphopt.cost.shapes import dims
from graphopt.ir import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Value
    from graphopt.targets.base import Target

_IMAGE_RANK = 3
"""Tensors of lower rank have no layout."""

_POOLS = frozenset({"MaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool"})
"""Integer kernels that have a form for channels at the end, and take it."""

_FOLLOWERS = frozenset(
    {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "Split",
     "Resize", "Slice", "Pad"}
)  # fmt: skip
"""Integer kernels that a Transpose is moved across where it meets another one behind them."""


@dataclass(frozen=True)
class LayoutCopy:
    """A tensor that is copied into the layout ``to`` before kernel number ``before``."""

    value: Value
    name: str
    before: int
    to: str = "plain"


def assign_layouts(
    kernels: Sequence[Kernel], target: Target
) -> tuple[tuple[Kernel, ...], tuple[LayoutCopy, ...]]:
    """Return the kernels with their layouts, and the copies between those that disagree.

    Integer pools, elementwise operators and concatenations follow when all their inputs are in a
    layout that they support; a tensor is copied once per layout that its readers want. Graph
    inputs and outputs are plain; a copy of an output comes after the last kernel.
    """
    held: dict[Value, str] = {}
    done: set[tuple[Value, str]] = set()
    wanted = _wanted_last(kernels)
    placed: list[Kernel] = []
    copies: list[LayoutCopy] = []
    for given in kernels:
        index = len(placed)
        if _cancels(given, held):
            held[given.writes[0]] = "plain"
            continue
        kernel = _following(given, held, wanted)
        for value in kernel.reads:
            have = held.get(value, "plain")
            if have != kernel.source and len(dims(value)) >= _IMAGE_RANK:
                copies.extend(_copy(value, have, kernel.source, index, done))
        held.update(dict.fromkeys(kernel.writes, kernel.layout))
        placed.append(kernel)
    for value in [v for v in held if v.is_output and held[v] != "plain"]:
        copies.extend(_copy(value, held[value], "plain", len(placed), done))
    return tuple(placed), tuple(copies)


def in_execution_order(kernels: Sequence[Kernel], target: Target) -> tuple[Kernel, ...]:
    """Return the kernels with the copies between their layouts among them, as kernels too."""
    placed, copies = assign_layouts(kernels, target)
    before: dict[int, list[LayoutCopy]] = {}
    for copy in copies:
        before.setdefault(copy.before, []).append(copy)
    found: list[Kernel] = []
    for index in range(len(placed) + 1):
        found.extend(_copy_kernel(copy) for copy in before.get(index, ()))
        found.extend(placed[index : index + 1])
    return tuple(found)


def _copy_kernel(copy: LayoutCopy) -> Kernel:
    """Return a copy as a kernel whose node stands apart from the graph."""
    value = copy.value
    order = {"Transpose": {"perm": list(_permutation(copy))}}.get(copy.name, {})
    like = value.producer or next(iter(value.consumers))
    node = Node.apart(like, copy.name, [value], [value], **order)
    dtype = "int8" if value.dtype is not None and value.dtype.bits == 8 else "float32"
    return Kernel(
        node=node, nodes=(), name=copy.name, kind="movement", dtype=dtype,
        reads=(value,), constants=(), writes=(value,),
    )  # fmt: skip


def _permutation(copy: LayoutCopy) -> tuple[int, ...]:
    rank = len(dims(copy.value))
    if copy.to == "channels_last":
        return (0, *range(2, rank), 1)
    return (0, rank - 1, *range(1, rank - 1))


def _cancels(kernel: Kernel, held: dict[Value, str]) -> bool:
    """Whether a Transpose asks for what a tensor's layout is already: channels at the end."""
    if kernel.name != "Transpose" or len(kernel.reads) != 1:
        return False
    return held.get(kernel.reads[0]) == "channels_last" and _moves_last(kernel)


def _moves_last(kernel: Kernel) -> bool:
    order = [int(axis) for axis in kernel.node.attribute("perm", ())]
    return kernel.name == "Transpose" and order == [0, *range(2, len(order)), 1]


def _wanted_last(kernels: Sequence[Kernel]) -> set[Value]:
    """Return the integer tensors that lead to a reader that wants their channels at the end."""
    wanted: set[Value] = set()
    for kernel in reversed(kernels):
        leads = kernel.name in _FOLLOWERS | _POOLS and not wanted.isdisjoint(kernel.writes)
        reads_last = kernel.dtype == "int8" and (kernel.source == "channels_last" or leads)
        if reads_last or _moves_last(kernel):
            wanted.update(kernel.reads)
    return wanted


def _following(kernel: Kernel, held: dict[Value, str], wanted: set[Value]) -> Kernel:
    """Return the kernel, in the layout of what it reads where the runtime lets it follow.

    A Transpose is moved across an operator where that removes another: one of a second input, or
    one behind it, be it at the price of one before an input that is still plain.
    """
    images = [held.get(v, "plain") for v in kernel.reads if len(dims(v)) >= _IMAGE_RANK]
    last = images.count("channels_last")
    if kernel.dtype != "int8" or kernel.layout != "plain" or 2 * last < max(len(images), 1):
        return kernel
    gains = 1 < last == len(images) or not wanted.isdisjoint(kernel.writes)
    if kernel.name not in _POOLS and not (kernel.name in _FOLLOWERS and gains):
        return kernel
    name = "NhwcMaxPool" if kernel.name == "MaxPool" else kernel.name
    return dataclasses.replace(kernel, layout="channels_last", source="channels_last", name=name)


def _copy(
    value: Value, have: str, want: str, index: int, done: set[tuple[Value, str]]
) -> list[LayoutCopy]:
    """Return the copies of a tensor that are still missing: through plain when both are special."""
    steps = [(have, "plain"), ("plain", want)] if "plain" not in (have, want) else [(have, want)]
    missing = [(a, b) for a, b in steps if (value, b) not in done]
    done.update((value, b) for _, b in missing)
    return [LayoutCopy(value, _name(a, b), index, b) for a, b in missing]


def _name(have: str, want: str) -> str:
    if "channels_last" in (have, want):
        return "Transpose"
    return "ReorderInput" if want == "blocked" else "ReorderOutput"
