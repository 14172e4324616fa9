"""What a pruning pass made, kept by content: the same pruning need not be fitted twice.

A search asks for the same smaller model again and again, with other passes behind it. What was made
is kept in the cache folder, as a model file, under a hash of everything that it depends on; it goes
through the same bytes whether it was found there or not, so results do not depend on the cache.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.calibration.cache_folder import cache_folder
from graphopt.errors import GraphOptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

_LARGEST = 64 << 20
"""Bytes of a model that is kept."""
_ROOM = 1 << 30
"""Bytes of all that are kept; what was written first goes first."""


@dataclass(frozen=True)
class Result:
    """What a pass made.

    Args:
        graph: the smaller model.
        fitted: how each layer was fitted, by name of its node.
        metrics: what the pass says of it.
    """

    graph: Graph
    fitted: Mapping[str, str]
    metrics: Mapping[str, float]


def content_key(graph: Graph, context: Context, *parts: Any) -> str:
    """Return a hash of a graph, what a context rests on, and whatever else matters.

    Args:
        graph: with its constants.
        context: has the data, the seed and the versions.
        *parts: anything whose repr says all about it.
    """
    told = (ir.structural_hash(graph), context.identity, *map(repr, parts))
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=20).hexdigest()


def kept_result(key: str, context: Context, make: Callable[[], Result]) -> Result:
    """Return what was made under a key before, or what ``make`` gives.

    Args:
        key: from ``content_key``.
        context: remembers it for the rest of the compile, without a cache folder as well.
        make: makes it anew.
    """
    packed = context.remember(("pruned", key), lambda: _found(key) or _packed(make(), key))
    return packed if isinstance(packed, Result) else _unpacked(packed)


def _packed(made: Result, key: str) -> bytes | Result:
    """Return a result as bytes, which are kept; as it is where it is too large."""
    if ir.tensor_bytes(made.graph) > _LARGEST:
        return made
    model = ir.to_bytes(made.graph)
    told = json.dumps({"fitted": dict(made.fitted), "metrics": dict(made.metrics)}).encode()
    data = len(told).to_bytes(8, "little") + told + model
    path = _path(key)
    if path is not None:
        with suppress(OSError, GraphOptError):
            path.parent.mkdir(parents=True, exist_ok=True)
            ir.write_whole(path, data)
            _make_room(path.parent)
    return data


def _unpacked(data: bytes) -> Result:
    length = int.from_bytes(data[:8], "little")
    told = json.loads(data[8 : 8 + length])
    return Result(ir.from_bytes(data[8 + length :]), told["fitted"], told["metrics"])


def _found(key: str) -> bytes | None:
    """Return what is kept under a key; None where nothing usable is."""
    path = _path(key)
    if path is None:
        return None
    try:
        data = path.read_bytes()
        _unpacked(data)
    except (OSError, ValueError, KeyError, GraphOptError):
        return None
    return data


def _make_room(folder: Path) -> None:
    """Remove the oldest results once all of them take too much."""
    facts = [(path.stat(), path) for path in folder.glob("*.pruned")]
    over = sum(fact.st_size for fact, _ in facts) - _ROOM
    for fact, path in sorted(facts, key=lambda each: each[0].st_mtime):
        if over <= 0:
            return
        path.unlink(missing_ok=True)
        over -= fact.st_size


def _path(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "pruning" / f"{key}.pruned"
