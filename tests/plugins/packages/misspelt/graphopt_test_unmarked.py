"""A plugin whose author forgot ``@hookimpl``."""

from __future__ import annotations


def graphopt_register_passes():
    return []
