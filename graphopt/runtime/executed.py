"""The graph that onnxruntime really executes, with the type and the size of every tensor in it."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.runtime.session import open_session
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph, Value
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_TAG = re.compile(r"graphopt_kernel_(\d+)__kernel_time")
_OTHER_NAMES = {"float": DType.FLOAT, "double": DType.DOUBLE, "string": DType.STRING}


def executed_graph(graph: Graph, target: Target | None, feed: Feed) -> Graph:
    """Return what the installed onnxruntime executes for ``graph`` with the rules of ``target``.

    The model is opened at full optimisation; the graph that comes out of it is then run once under
    the profiler, which tells type and shape of every tensor of the top level. Nodes keep the names
    that the runtime gave them. Tensors in a blocked layout have the runtime's padded shapes.

    Args:
        graph: any model that fits into 2 GB; not changed.
        target: its session entries decide what is fused; the host's own rules when None.
        feed: arrays of the sizes that the shapes are wanted for.

    Raises:
        ModelError: as ``open_session`` and ``Session.run``.
    """
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "executed.onnx"
        open_session(graph, target=target, dump=path)
        executed = ir.load(path)
        fill_shapes(executed, feed, target)
    return executed


def fill_shapes(executed: Graph, feed: Feed, target: Target | None = None) -> None:
    """Set type and shape of every tensor of the top level of an optimised graph, in place.

    The graph is run once as it is: no operator is fused or moved any more. Tensors of nodes that
    are not reached, and what is no tensor, keep what they had.

    Raises:
        ModelError: as ``open_session`` and ``Session.run``.
    """
    for value in executed.feeds:
        if value.name in feed:
            value.shape = feed[value.name].shape
    nodes = executed.nodes()
    for number, event in _events(executed, feed, target).items():
        _set_types(nodes[number].outputs, event["output_type_shape"])
        _set_types(nodes[number].inputs, event["input_type_shape"])


def made_up_feed(graph: Graph) -> dict[str, Array]:
    """Return a feed for the declared inputs: normal floats, and ones; an open dimension is 1.

    One is a token that every vocabulary has, and a length with which nothing is empty.
    """
    random = np.random.default_rng(0)
    return {value.name: _made_up(value, random) for value in graph.feeds}


def _made_up(value: Value, random: np.random.Generator) -> Array:
    shape = [d if isinstance(d, int) else 1 for d in value.shape or ()]
    dtype = np.dtype((value.dtype or DType.FLOAT).numpy_name)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return np.ones(shape, dtype)


def _events(executed: Graph, feed: Feed, target: Target | None) -> dict[int, dict[str, Any]]:
    """Return what the profiler says of each node of the top level, by its position."""
    named = executed.copy()
    for number, node in enumerate(named.nodes()):
        node.name = f"graphopt_kernel_{number}_"
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        prefix = Path(folder) / "profile"
        session = open_session(named, target=target, optimize=False, profile=prefix)
        try:
            session.run(feed)
        finally:
            written = session.native.end_profiling()
        events = json.loads(Path(written).read_text(encoding="utf-8"))
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        tag = _TAG.fullmatch(event.get("name", ""))
        if tag and event.get("cat") == "Node":
            found[int(tag.group(1))] = event["args"]
    return found


def _set_types(values: Sequence[Value | None], told: Sequence[Mapping[str, list[int]]]) -> None:
    """Give tensors what the profiler says; it leaves out what is omitted and what is no tensor."""
    present = [value for value in values if value is not None and value.name]
    if len(present) != len(told):
        return
    for value, entry in zip(present, told, strict=True):
        ((name, shape),) = entry.items()
        if value.tensor is not None:
            continue
        value.shape = tuple(shape)
        value.dtype = _dtype(name) or value.dtype


def _dtype(name: str) -> DType | None:
    return _OTHER_NAMES.get(name) or DType.__members__.get(name.upper())
