"""The Python API: what the command line calls, and what other programs may."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.api.analysis import analyze
    from graphopt.api.compare import bench, diff
    from graphopt.api.compiled import Compiled
    from graphopt.api.compiler import compile_model as compile
    from graphopt.api.describe import estimate, inspect
    from graphopt.api.diagnosis import doctor
    from graphopt.api.estimates import estimate_targets
    from graphopt.api.host_profile import has_host_profile
    from graphopt.api.profiling import profile, write_bundle
    from graphopt.api.prunable import analyze_pruning, explain_tensor
    from graphopt.api.searching import Found, search
    from graphopt.api.setup import resolve_recipe

__all__ = [
    "Compiled",
    "Found",
    "analyze",
    "analyze_pruning",
    "bench",
    "compile",
    "diff",
    "doctor",
    "estimate",
    "estimate_targets",
    "explain_tensor",
    "has_host_profile",
    "inspect",
    "profile",
    "resolve_recipe",
    "search",
    "write_bundle",
]

# Resolved on first use: a compile does not wait for what only other commands need.
_HOMES = {
    "analysis": ("analyze",),
    "compare": ("bench", "diff"),
    "compiled": ("Compiled",),
    "compiler": ("compile_model",),
    "describe": ("estimate", "inspect"),
    "diagnosis": ("doctor",),
    "estimates": ("estimate_targets",),
    "host_profile": ("has_host_profile",),
    "profiling": ("profile", "write_bundle"),
    "prunable": ("analyze_pruning", "explain_tensor"),
    "searching": ("Found", "search"),
    "setup": ("resolve_recipe",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_OTHER_NAMES = {"compile": "compile_model"}


def __getattr__(name: str) -> Any:
    own = _OTHER_NAMES.get(name, name)
    home = _HOME_OF.get(own)
    if home is None or name not in __all__:
        raise AttributeError(f"module 'graphopt.api' has no attribute {name!r}")
    return getattr(import_module(f"graphopt.api.{home}"), own)
