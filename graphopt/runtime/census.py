"""What the runtime will really execute: the optimised graph, counted and matched back."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.runtime.arithmetic import arithmetic, why_weight_only
from graphopt.runtime.session import Session, open_session

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.runtime.arithmetic import Arithmetic
    from graphopt.targets.base import Target

_TAG = re.compile(r"graphopt_heavy_\d+_")
_DATA_FILE = "session.optimized_model_external_initializers_file_name"
_LEAST_APART = "session.optimized_model_external_initializers_min_size_in_bytes"
_FAMILY = {
    "FastGelu": "Gelu", "FusedConv": "Conv", "NhwcFusedConv": "Conv", "NhwcMaxPool": "MaxPool",
    "SkipLayerNormalization": "LayerNormalization",
}  # fmt: skip
_ALSO_STANDARD = frozenset({"Gelu", "LayerNormalization"})
"""Fused operators that models of newer operator sets may hold themselves."""


@dataclass(frozen=True)
class Execution:
    """How one heavy operator of the model is executed.

    Args:
        node: its name in the model.
        op: its operator in the model.
        kernel: what executes it; for float operators what the model says.
        arithmetic: integer, weight-only (float arithmetic on weights in few bits), or float.
        why: what keeps a weight-only product from integers.
    """

    node: str
    op: str
    kernel: str
    arithmetic: Arithmetic
    why: str | None = None

    @property
    def integer(self) -> bool:
        """Whether it is computed in integers."""
        return self.arithmetic == "integer"


@dataclass(frozen=True)
class Census:
    """The executed graph in numbers.

    Args:
        kernels: how often each executed operator occurs, with its domain.
        heavy: every heavy operator of the model, quantized or not, in its order. Operators that
            the model itself holds in integer form are among them if the executed graph has them.
    """

    kernels: Counter[str]
    heavy: tuple[Execution, ...]

    @property
    def fused(self) -> Counter[str]:
        """Executed operators that stand for several of older sets, by what they compute.

        The same convolution may run as FusedConv or, with constant weights, in a blocked layout;
        that is one fusion. Changes of layout are none.
        """
        found: Counter[str] = Counter()
        for kernel, count in self.kernels.items():
            domain, _, op = kernel.rpartition(".")
            own = domain.startswith("com.microsoft") and not op.startswith("Reorder")
            if own or kernel in _ALSO_STANDARD:
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
    _tag(named)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        # Weights in temporary files are only referred to from beside them.
        place = ir.temporary_folder(named) or Path(folder)
        path, data = (place / f"{Path(folder).name}.{end}" for end in ("onnx", "data"))
        config = {_DATA_FILE: data.name, _LEAST_APART: "1024"}
        try:
            _lead_nowhere(data)
            session = open_session(named, target=target, dump=path, config=config)
            executed = ir.load(path, in_place=True, values=False)
        finally:
            path.unlink(missing_ok=True)
            data.unlink(missing_ok=True)
        kernels = Counter(_kernel(n) for n in executed.walk())
        return session, Census(kernels, _match(graph, executed, target))


def _lead_nowhere(path: Path) -> None:
    """Let what is written to a file vanish, where the system can: nobody reads these weights."""
    with contextlib.suppress(OSError, NotImplementedError):
        path.symlink_to(os.devnull)


def census(graph: Graph, target: Target | None = None) -> Census:
    """Return what the runtime executes for ``graph`` on ``target``."""
    return open_with_census(graph, target)[1]


def _tag(graph: Graph) -> None:
    """Name every heavy node so that it can be found again; the runtime keeps names."""
    for index, node in enumerate(_heavy(graph)):
        node.name = f"graphopt_heavy_{index}_"


def _heavy(graph: Graph) -> list[Node]:
    return [n for n in graph.walk() if arithmetic(n) is not None]


def _kernel(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else node.op


def _match(graph: Graph, executed: Graph, target: Target | None) -> tuple[Execution, ...]:
    """Return how each heavy node of ``graph`` is executed.

    Float operators may lose their names on the way into a blocked layout; integer ones do not.
    """
    kernels: dict[str, Node] = {}
    for node in executed.walk():
        found = _TAG.match(node.name)
        if found and arithmetic(node) is not None:
            kernels[found.group()] = node
    heavy = []
    for index, node in enumerate(_heavy(graph)):
        kernel = kernels.get(f"graphopt_heavy_{index}_")
        if kernel is not None or arithmetic(node) == "float":
            heavy.append(_execution(node, kernel, target))
    return tuple(heavy)


def _execution(node: Node, kernel: Node | None, target: Target | None) -> Execution:
    how = arithmetic(kernel, target) if kernel is not None else None
    if kernel is None or how is None or how == "float":
        return Execution(node.label, node.op, node.op, "float")
    why = why_weight_only(kernel, target) if how == "weight-only" else None
    return Execution(node.label, node.op, kernel.op, how, why)
