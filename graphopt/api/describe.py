"""Facts about a model without compiling it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from graphopt.api.setup import cost_model, find_target
from graphopt.api.sizes import sizes_given
from graphopt.api.source import facts, read_model
from graphopt.ir import infer_shapes
from graphopt.registry import Registry
from graphopt.report import ModelSummary, PortFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.cost.base import Estimate
    from graphopt.ir import Value


def inspect(
    model: ModelSource, *, shapes: Shapes | None = None, dims: OpenDims | None = None
) -> ModelSummary:
    """Return inputs, outputs, operators and weights of a model.

    Args:
        model: the model.
        shapes: what its inputs are, as for a compile; its outputs follow.
        dims: sizes of its symbols, as for a compile.

    Raises:
        ModelError: G201 to G209, G218.
    """
    sizes = sizes_given(shapes, dims)
    graph, name = read_model(model, sizes)
    if sizes:
        infer_shapes(graph)
    operators = Counter(f"{n.domain}.{n.op}" if n.domain else n.op for n in graph.walk())
    weights: Counter[str] = Counter()
    for value in graph.initializers:
        tensor = value.stored
        if tensor is not None:
            weights[tensor.dtype.numpy_name] += tensor.nbytes
    return ModelSummary(
        facts=facts(graph, name),
        inputs=_ports(graph.feeds),
        outputs=_ports(graph.outputs),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        weights=dict(weights),
    )


def _ports(values: Iterable[Value]) -> tuple[PortFacts, ...]:
    return tuple(
        PortFacts(v.name, v.shape, v.dtype.numpy_name if v.dtype is not None else "?")
        for v in values
    )


def estimate(
    model: ModelSource, *, target: str = "host", registry: Registry | None = None
) -> Estimate:
    """Return the estimated cost of one inference on a target, kernel by kernel.

    Raises:
        ModelError: G201 to G209.
        TargetError: G501, G502.
    """
    registry = registry or Registry()
    graph, _ = read_model(model)
    found = find_target(target, registry)
    return cost_model(found, registry).estimate(graph, found)
