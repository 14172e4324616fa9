"""The plugin as the registry finds it, and without torch until something is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from graphopt.registry import Registry

PLUGIN = Path(__file__).resolve().parents[1]

WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["torch"] = None  # whoever imports it fails
import graphopt_torch
kinds = graphopt_torch.graphopt_register_passes()
print(*sorted(kind.name for kind in kinds))
assert all(kind().name for kind in kinds)
"""


def test_the_plugin_is_loaded_and_says_what_it_has() -> None:
    registry = Registry(plugins=["torch"])
    (status,) = (s for s in registry.plugins(load=True) if s.name == "torch")
    assert (status.status, status.error) == ("loaded", None)
    passes = ("distill-weights", "learn-widths", "prune-while-training")
    assert status.provides == tuple(f"pass {name}" for name in passes)


def test_passes_are_listed_without_torch() -> None:
    """Listing passes and checking recipes must not wait for torch, nor need it."""
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, PLUGIN], check=True, capture_output=True, text=True
    )
    assert "distill-weights" in found.stdout
