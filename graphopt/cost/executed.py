"""Kernels of the graph that onnxruntime itself made of a model: what the fusion tables predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis import captured_values
from graphopt.cost.blocked import unblock
from graphopt.cost.kernels import Kernel, arithmetic_of
from graphopt.cost.shapes import dims, sized
from graphopt.cost.work import is_channels_last, kind_of
from graphopt.errors import GraphOptError
from graphopt.ir import tensor_bytes
from graphopt.runtime import executed_graph, made_up_feed
from graphopt.targets import host_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np

    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.base import Target

    Feed = Mapping[str, np.ndarray[Any, Any]]

SIZE_LIMIT = 1 << 30
"""Bytes of constants above which a model is not opened twice only to be looked at."""

_RESIDUAL = 3
"""Position of the tensor that a fused convolution adds."""


def executed_kernels(
    graph: Graph, target: Target, feeds: Feed | None = None
) -> tuple[Kernel, ...] | str:
    """Return the kernels that the installed onnxruntime runs for ``graph``, or why that is unknown.

    They are in order of execution, copies between layouts among them. The answer is about
    ``target`` only where this machine's runtime makes the same of the model as the target's own:
    the instruction set decides the layout of convolutions. Elsewhere `group_kernels` and
    `assign_layouts` predict.

    Args:
        graph: any model.
        target: where it shall run.
        feeds: one array per input, for the sizes that the model leaves open; without it they are
            those that estimates assume.
    """
    reason = why_not_executed(graph, target)
    if reason is not None:
        return reason
    known, _ = sized(graph, _given_sizes(graph, feeds or {}))
    try:
        executed = executed_graph(graph, target, feeds or made_up_feed(known))
    except GraphOptError as error:
        return f"onnxruntime could not run it: {error}"
    return kernels_of_optimized(executed, target, original=known)


def _given_sizes(graph: Graph, feeds: Feed) -> dict[str, int]:
    """Return the sizes of the open dimensions of the inputs that arrays have."""
    return {
        dim: size
        for value in graph.feeds
        if value.name in feeds
        for dim, size in zip(value.shape or (), feeds[value.name].shape, strict=False)
        if isinstance(dim, str)
    }


def why_not_executed(graph: Graph, target: Target) -> str | None:
    """Return why onnxruntime cannot be asked here what it executes on ``target``, or None."""
    if not target.runs_onnxruntime:
        return f"{target.name} does not run onnxruntime"
    if target.provider != "CPUExecutionProvider":
        return f"{target.name} runs on {target.provider}, which is not installed here"
    host = host_target()
    theirs, ours = target.compute, host.compute
    same = theirs.layouts == ours.layouts
    if same and "blocked" in ours.layouts.values():
        same = theirs.alignment == ours.alignment
    if not target.is_host and (not same or target.session_config != host.session_config):
        return f"onnxruntime on this machine ({host.summary}) fuses other than on {target.name}"
    if tensor_bytes(graph) > SIZE_LIMIT:
        return f"the model holds more than {SIZE_LIMIT >> 30} GB of constants"
    return None


def kernels_of_optimized(
    executed: Graph, target: Target | None = None, original: Graph | None = None
) -> tuple[Kernel, ...]:
    """Return one kernel for each node of a graph that onnxruntime has optimised.

    Tensors have the sizes of the plain layout, without the padding of blocks. A convolution with
    an activation or a residual is called FusedConv in every layout.

    Args:
        executed: written by onnxruntime at full optimisation, with all its shapes; not changed.
        target: decides whether packed weights are multiplied as integers.
        original: the model that it was made of, with its shapes: its channels are the true ones
            of padded tensors. Without it they are counted from the weights.
    """
    plain = executed.copy()
    blocked = unblock(plain, original)
    held: dict[Value, str] = dict.fromkeys(blocked, "blocked")
    kernels = []
    for node in plain.nodes():
        layout = _layout(node, held)
        held.update(dict.fromkeys(node.outputs, layout))
        kernels.append(_kernel(node, layout, target))
    return tuple(kernels)


def _kernel(node: Node, layout: str, target: Target | None) -> Kernel:
    given = dict.fromkeys(v for v in (*node.inputs, *captured_values(node)) if v and v.name)
    return Kernel(
        node=node,
        nodes=(node,),
        name=_name(node),
        kind=kind_of(node),
        dtype=arithmetic_of(node, target),
        reads=tuple(v for v in given if not v.is_constant and not v.is_initializer),
        constants=tuple(v for v in given if v.is_constant or v.is_initializer),
        writes=tuple(v for v in node.outputs if v.name),
        layout=layout,
    )


def _name(node: Node) -> str:
    if node.op != "Conv" or node.domain == "":
        return node.op
    residual = len(node.inputs) > _RESIDUAL and node.inputs[_RESIDUAL] is not None
    return "FusedConv" if residual or node.attribute("activation") else "Conv"


def _layout(node: Node, held: Mapping[Value, str]) -> str:
    """Return the layout of what a node makes: its own, or that of the images that it reads."""
    if node.op in {"Transpose", "ReorderInput", "ReorderOutput"}:
        return "blocked" if node.op == "ReorderInput" else "plain"
    if is_channels_last(node):
        return "channels_last"
    if node.domain.endswith("nchwc"):
        return "blocked"
    images = {held.get(v, "plain") for v in node.inputs if v is not None and len(dims(v)) > 2}
    return images.pop() if len(images) == 1 else "plain"
