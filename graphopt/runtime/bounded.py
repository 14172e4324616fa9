"""Runs of models that may never end: stopped after a while, or when they take too much memory.

How often a Loop runs is a number in the file, or one that the model computes; no reading of the
model tells in general whether it ends.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import ModelError
from graphopt.runtime.affordable import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph

MOST_SECONDS = 20.0
"""How long one run of a model with a loop may take."""
_MOST_MEMORY = 0.5
"""Share of this machine's memory by which the process may grow during the run."""
_EVERY = 0.05
"""Seconds between two looks at a run."""
_PAGE_FILE = Path("/proc/self/statm")
_PAGE_BYTES = 4096
_REPEATING = frozenset({"Loop", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})
"""Operators that run a graph as often as a number says."""


class RunStoppedError(ModelError):
    """A run was given up: the model may have no end."""


def may_be_endless(graph: Graph) -> bool:
    """Whether how long the graph runs depends on more than the sizes of its tensors."""
    called = (node.op_type for f in graph.functions for node in f.proto.node)
    return any(n.op in _REPEATING for n in graph.walk()) or not _REPEATING.isdisjoint(called)


def run_bounded(
    native: Any, feeds: Mapping[str, Any], outputs: Sequence[str] | None, seconds: float
) -> list[Any]:
    """Run a session of onnxruntime once, and stop it when it does not end.

    Args:
        native: the session.
        feeds: its inputs.
        outputs: names; None for all.
        seconds: after which the run is stopped.

    Raises:
        RunStoppedError: G215, it was stopped. What onnxruntime raises passes through.
    """
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = 4  # that it was stopped is told by the error
    done, reasons = threading.Event(), list[str]()
    watcher = threading.Thread(target=_watch, args=(options, done, seconds, reasons), daemon=True)
    watcher.start()
    try:
        return list(native.run(outputs, dict(feeds), options))
    except Exception as error:
        if not reasons:
            raise
        raise RunStoppedError(
            f"the model has a loop and was stopped: {reasons[0]}",
            code="G215",
            hint="check how often its loops run; what may have no end cannot be compared",
        ) from error
    finally:
        done.set()
        watcher.join()


def _watch(options: Any, done: threading.Event, seconds: float, reasons: list[str]) -> None:
    """Stop the run when it takes too long or too much."""
    started, before = time.monotonic(), _resident_bytes()
    while not done.wait(_EVERY):
        if time.monotonic() - started > seconds:
            reasons.append(f"it had not ended after {seconds:g} s")
        elif _resident_bytes() - before > _MOST_MEMORY * memory_bytes():
            reasons.append(f"it took more than {_MOST_MEMORY:.0%} of this machine's memory")
        if reasons:
            options.terminate = True
            return


def _resident_bytes() -> int:
    """Return what this process holds in memory; 0 where the system does not tell."""
    try:
        return int(_PAGE_FILE.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
