"""The registry: finds plugins, loads them one by one, checks what they return, answers by name."""

from __future__ import annotations

from graphopt.registry.kinds import KINDS
from graphopt.registry.lookup import BUILTIN_PLUGINS, Registry
from graphopt.registry.plugin import PluginStatus, Status

__all__ = ["BUILTIN_PLUGINS", "KINDS", "PluginStatus", "Registry", "Status"]
