"""A plugin for a graphopt that still passed an argument to this hook."""

from __future__ import annotations

from graphopt.hookspecs import hookimpl


@hookimpl
def graphopt_register_passes(configuration):
    return []
