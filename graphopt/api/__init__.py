"""The Python API: what the command line calls, and what other programs may."""

from __future__ import annotations

from graphopt.api.analysis import analyze
from graphopt.api.compare import bench, diff
from graphopt.api.compiled import Compiled
from graphopt.api.compiler import compile_model as compile
from graphopt.api.describe import estimate, inspect
from graphopt.api.doctor import doctor
from graphopt.api.estimates import estimate_targets
from graphopt.api.host_profile import has_host_profile
from graphopt.api.profiling import profile, write_bundle
from graphopt.api.prunable import analyze_pruning, explain_tensor
from graphopt.api.setup import resolve_recipe

__all__ = [
    "Compiled",
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
    "write_bundle",
]
