"""Nodes to kernels: what the runtime executes as one, in the order in which it executes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from graphopt.analysis import captured_values, folded_nodes
from graphopt.cost.fused import float_kernels
from graphopt.cost.qdq import IntegerGroup, integer_group, is_dequantize, packed_weight
from graphopt.cost.work import CONVOLUTIONS, REMOVED, VIEWS, kind_of
from graphopt.runtime import arithmetic, has_packed_integers
from graphopt.targets.fusion import fusion_table
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.drafts import Draft
    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.base import Target

_INTEGERS = frozenset({DType.INT8, DType.UINT8})
_SAME_MEMORY = frozenset({"elementwise", "quantize"})


@dataclass(frozen=True)
class Kernel:
    """One call of the runtime.

    Args:
        node: the operator that does the work; its class and shapes decide the cost.
        nodes: every node that the kernel covers, in order of execution.
        name: the runtime's operator.
        kind: cost class, as in ``KernelCost``.
        dtype: float32, float16 or int8: what the arithmetic is done in.
        reads: activations that it reads, in their stored type.
        constants: weights that it reads, in their stored type.
        writes: activations that it writes.
        layout: plain, blocked or channels_last: of the images that it makes.
        source: layout of the images that it reads.
    """

    node: Node
    nodes: tuple[Node, ...]
    name: str
    kind: str
    dtype: str
    reads: tuple[Value, ...]
    constants: tuple[Value, ...]
    writes: tuple[Value, ...]
    layout: str = field(default="plain", compare=False)
    source: str = field(default="plain", compare=False)

    @property
    def is_view(self) -> bool:
        """Whether it only gives the same memory another shape."""
        return self.node.op in VIEWS

    @property
    def in_place(self) -> bool:
        """Whether the output may overwrite an input of at least its size."""
        return self.kind in _SAME_MEMORY or self.node.op in {"Softmax", "LogSoftmax"}


def group_kernels(graph: Graph, target: Target) -> tuple[Kernel, ...]:
    """Return the kernels of the top level of ``graph`` on ``target``, in order of execution.

    Operators on constants alone are computed at load and cost nothing; neither do identities.
    ``graph`` must carry its shapes.
    """
    return _Grouper(graph, target).run()


class _Grouper:
    """The state of one grouping."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self._graph = graph
        self._target = target
        self._table = fusion_table(target.runtime)
        self._order = {node: index for index, node in enumerate(graph.nodes())}
        self._folded = folded_nodes(graph)
        self._taken: set[Node] = set()
        self._absorbed: set[tuple[Node, Node]] = set()
        """Pairs of a DQ and an operator whose integer kernel covers it."""
        self._alias: dict[Value, Value] = {}

    def run(self) -> tuple[Kernel, ...]:
        self._forget_identities()
        kernels = [*self._integer_kernels(), *self._float_kernels()]
        kernels.sort(key=lambda placed: placed[0])
        return tuple(kernel for _, kernel in kernels)

    def _forget_identities(self) -> None:
        for node in self._order:
            if node.op in REMOVED and node.domain == "" and node.inputs and node.inputs[0]:
                self._alias[node.outputs[0]] = self._real(node.inputs[0])

    def _integer_kernels(self) -> list[tuple[float, Kernel]]:
        groups: list[IntegerGroup] = []
        for node in self._order:
            group = integer_group(node, self._table, self._target)
            if group is not None:
                groups.append(group)
        for group in groups:
            self._taken.update((group.node, *group.absorbed, *group.quantized))
        self._take_absorbed_dequantize(groups)
        return [
            (max(self._order[n] for n in group.nodes), self._integer_kernel(group))
            for group in groups
        ]

    def _take_absorbed_dequantize(self, groups: Sequence[IntegerGroup]) -> None:
        """Mark each DQ whose every reader is a kernel that absorbs it: it is never executed."""
        self._absorbed = {(dq, group.node) for group in groups for dq in group.dequantized}
        self._taken.update(dq for dq, _ in self._absorbed if self._executions(dq) == 0)

    def _executions(self, dequantize: Node) -> int:
        """Return how often a DQ is executed: onnxruntime gives each reader one of its own."""
        output = dequantize.outputs[0]
        readers = [
            n for n, _ in output.uses
            if (dequantize, n) not in self._absorbed and n.graph is self._graph
        ]  # fmt: skip
        inner = any(n.graph is not self._graph for n in output.consumers)
        count = len(readers) + (output.is_output or inner)
        return count if self._target.runs_onnxruntime else min(count, 1)

    def _integer_kernel(self, group: IntegerGroup) -> Kernel:
        sources = [source.inputs[0] for source in group.dequantized]
        writes = [q.outputs[0] for q in group.quantized] or [*group.node.outputs]
        return self._kernel(group.node, group.nodes, group.kernel, "int8", sources, writes)

    def _float_kernels(self) -> list[tuple[float, Kernel]]:
        kernels = []
        removed = {n for n in self._order if n in self._folded or self._is_removed(n)}
        for draft in float_kernels(
            self._graph, self._target, self._taken | removed, self._is_fixed
        ):
            kernel = self._float_kernel(draft)
            copies = self._executions(draft.node) if is_dequantize(draft.node) else 1
            kernels += [(draft.place, kernel)] * copies
        return self._without_packed_weights(kernels)

    def _float_kernel(self, draft: Draft) -> Kernel:
        node, covered = draft.node, tuple(draft.nodes)
        weight = packed_weight(node)
        if weight is not None:
            return self._packed_kernel(node, covered, weight)
        inner = (node, *(n for n in covered if n is not node))
        sources = [v for n in inner for v in (*n.inputs, *captured_values(n))]
        dtype = arithmetic_of(node, self._target)
        outputs = node.outputs if draft.output in node.outputs else [draft.output]
        kernel = self._kernel(node, covered, draft.name, dtype, sources, outputs)
        return replace(kernel, layout=draft.layout, source=draft.source)

    def _packed_kernel(self, node: Node, nodes: tuple[Node, ...], weight: Node) -> Kernel:
        sources = [node.inputs[0], weight.inputs[0], *(v for n in nodes[1:] for v in n.inputs)]
        covered = (weight, *nodes)
        dtype = "int8" if has_packed_integers(self._target) else "float32"
        return self._kernel(node, covered, "MatMulNBits", dtype, sources, nodes[-1].outputs)

    def _without_packed_weights(
        self, kernels: list[tuple[float, Kernel]]
    ) -> list[tuple[float, Kernel]]:
        """Drop the DQ kernels whose only reader reads the packed integers itself."""
        packed = {n for _, k in kernels if k.name == "MatMulNBits" for n in k.nodes}
        return [(at, k) for at, k in kernels if not (is_dequantize(k.node) and k.node in packed)]

    def _kernel(
        self,
        node: Node,
        nodes: tuple[Node, ...],
        name: str,
        dtype: str,
        sources: Sequence[Value | None],
        writes: Sequence[Value],
    ) -> Kernel:
        inside = {v for n in (node, *nodes) for v in n.outputs}
        read = list(dict.fromkeys(self._real(v) for v in sources if v is not None))
        read = [v for v in read if v not in inside and v.name]
        constants = tuple(v for v in read if self._is_known(v))
        return Kernel(
            node=node,
            nodes=nodes,
            name=name,
            kind=kind_of(node),
            dtype=dtype,
            reads=tuple(v for v in read if not self._is_known(v)),
            constants=constants,
            writes=tuple(v for v in writes if v.name),
            layout=(layout := _layout(node, dtype, self._target)),
            source=layout,
        )

    def _real(self, value: Value) -> Value:
        return self._alias.get(value, value)

    def _is_known(self, value: Value) -> bool:
        return value.is_constant or value.is_initializer or value.producer in self._folded

    def _is_fixed(self, value: Value) -> bool:
        """Whether a value is the same in every run: the caller cannot override it."""
        return value.is_constant or value.producer in self._folded

    def _is_removed(self, node: Node) -> bool:
        if is_dequantize(node) and not node.outputs[0].uses and not node.outputs[0].is_output:
            return True
        return node.op in REMOVED and node.domain == ""


def arithmetic_of(node: Node, target: Target | None) -> str:
    """Return what a kernel outside Q and DQ computes in: float32, float16 or int8."""
    if arithmetic(node, target) == "integer" or node.op.startswith("QLinear"):
        return "int8"
    types = {v.dtype for v in node.outputs[:1]}
    if types <= _INTEGERS and node.op != "QuantizeLinear":
        return "int8"
    return "float16" if DType.FLOAT16 in types else "float32"


def _layout(node: Node, dtype: str, target: Target) -> str:
    """Return the layout that an integer convolution is executed in; others follow their inputs."""
    if node.op not in CONVOLUTIONS or dtype != "int8":
        return "plain"
    return target.compute.layouts.get(dtype, "plain")
