"""A plugin whose parameter has a default, which means different things to different pluggys."""

from __future__ import annotations

from graphopt.hookspecs import hookimpl


@hookimpl
def graphopt_register_passes(configuration="none"):
    return []
