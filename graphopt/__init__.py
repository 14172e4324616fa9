"""A plugin-based compression compiler on ONNX graphs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphopt.version import VERSION as __version__

if TYPE_CHECKING:
    from graphopt.api import (
        Compiled,
        analyze,
        analyze_pruning,
        bench,
        compile,
        diff,
        estimate,
        explain_tensor,
        inspect,
        search,
    )
    from graphopt.api.diagnosis import doctor
    from graphopt.errors import GraphOptError
    from graphopt.hookspecs import hookimpl
    from graphopt.ir import Graph, Node, Tensor, Value
    from graphopt.passes.base import Context, Pass, PassResult
    from graphopt.registry import Registry
    from graphopt.report import Report
    from graphopt.targets import Target, read_target
    from graphopt.types import DType, Effect

__all__ = [
    "Compiled",
    "Context",
    "DType",
    "Effect",
    "Graph",
    "GraphOptError",
    "Node",
    "Pass",
    "PassResult",
    "Registry",
    "Report",
    "Target",
    "Tensor",
    "Value",
    "__version__",
    "analyze",
    "analyze_pruning",
    "bench",
    "compile",
    "diff",
    "doctor",
    "estimate",
    "explain_tensor",
    "hookimpl",
    "inspect",
    "read_target",
    "search",
]

# Resolved on first use, so that importing graphopt stays as cheap as `graphopt --help` needs it.
_HOMES = {
    "graphopt.api": (
        "Compiled",
        "analyze",
        "analyze_pruning",
        "bench",
        "compile",
        "diff",
        "doctor",
        "estimate",
        "explain_tensor",
        "inspect",
        "search",
    ),
    "graphopt.errors": ("GraphOptError",),
    "graphopt.hookspecs": ("hookimpl",),
    "graphopt.ir": ("Graph", "Node", "Tensor", "Value"),
    "graphopt.passes.base": ("Context", "Pass", "PassResult"),
    "graphopt.registry": ("Registry",),
    "graphopt.report": ("Report",),
    "graphopt.targets": ("Target", "read_target"),
    "graphopt.types": ("DType", "Effect"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    return getattr(import_module(home), name)
