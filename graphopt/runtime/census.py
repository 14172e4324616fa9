"""What the runtime will really execute: the optimised graph, counted and matched back."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.runtime.session import Session, open_session

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.targets.base import Target

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose precision decides how fast a model is."""

INTEGER_KERNELS = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger",
     "ConvInteger", "DynamicQuantizeMatMul", "MatMulNBits"}
)  # fmt: skip

_FAMILY = {"FusedConv": "Conv", "NhwcFusedConv": "Conv", "NhwcMaxPool": "MaxPool"}


@dataclass(frozen=True)
class Execution:
    """How one heavy operator of the model is executed."""

    node: str
    op: str
    kernel: str
    integer: bool


@dataclass(frozen=True)
class Census:
    """The executed graph in numbers.

    Args:
        kernels: how often each executed operator occurs, with its domain.
        heavy: every heavy operator of the model that is left in the executed graph.
    """

    kernels: Counter[str]
    heavy: tuple[Execution, ...]

    @property
    def fused(self) -> Counter[str]:
        """Executed operators that only the runtime's optimiser makes, by what they compute.

        The same convolution may run as FusedConv or, with constant weights, in a blocked layout;
        that is one fusion. Changes of layout are none.
        """
        found: Counter[str] = Counter()
        for kernel, count in self.kernels.items():
            domain, _, op = kernel.rpartition(".")
            if domain.startswith("com.microsoft") and not op.startswith("Reorder"):
                found[_FAMILY.get(op, op)] += count
        return found

    @property
    def executed(self) -> int:
        """Number of kernels that run for one inference."""
        return sum(self.kernels.values())

    def lost(self, after: Census) -> dict[str, int]:
        """Return fused operators that ``after`` has fewer of although it runs no fewer kernels."""
        if after.executed < self.executed:
            return {}
        return {k: n - after.fused[k] for k, n in self.fused.items() if after.fused[k] < n}


def open_with_census(graph: Graph, target: Target | None) -> tuple[Session, Census]:
    """Open ``graph`` at full optimisation for ``target``; return the session and what it runs."""
    named = graph.copy()
    tags = _tag(named)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "executed.onnx"
        session = open_session(named, target=target, dump=path)
        executed = ir.load(path)
        kernels = Counter(_kernel(n) for n in executed.walk())
        return session, Census(kernels, _match(graph, tags, executed))


def census(graph: Graph, target: Target | None = None) -> Census:
    """Return what the runtime executes for ``graph`` on ``target``."""
    return open_with_census(graph, target)[1]


def node_name(node: Node) -> str:
    """Return the node's name, or the name of its first output where it has none."""
    return node.name or (node.outputs[0].name if node.outputs else node.op)


def _tag(graph: Graph) -> list[str]:
    """Name every heavy node so that it can be found again; the runtime keeps names."""
    tags = []
    for index, node in enumerate(n for n in graph.walk() if _is_heavy(n)):
        node.name = f"graphopt_heavy_{index}_"
        tags.append(node.name)
    return tags


def _is_heavy(node: Node) -> bool:
    return node.op in HEAVY and node.domain == ""


def _kernel(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else node.op


def _match(graph: Graph, tags: list[str], executed: Graph) -> tuple[Execution, ...]:
    integer: dict[str, str] = {}
    for node in executed.walk():
        found = re.match(r"graphopt_heavy_\d+_", node.name)
        if found and node.op in INTEGER_KERNELS:
            integer[found.group()] = node.op
    heavy = [n for n in graph.walk() if _is_heavy(n)]
    return tuple(
        Execution(node_name(n), n.op, integer.get(tag, n.op), tag in integer)
        for n, tag in zip(heavy, tags, strict=True)
    )
