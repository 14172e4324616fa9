"""Nodes to kernels: what the runtime executes as one, in the order in which it executes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.analysis import captured_values, folded_nodes
from graphopt.cost.fused import fused_with
from graphopt.cost.qdq import IntegerGroup, integer_group, is_dequantize, packed_weight
from graphopt.cost.work import CONVOLUTIONS, REMOVED, VIEWS, kind_of, product_of
from graphopt.runtime import arithmetic, has_packed_integers
from graphopt.targets.fusion import fusion_table
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        layout: plain, blocked or channels_last: how it wants its activations.
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
        kernels.sort(key=lambda kernel: max(self._order[n] for n in kernel.nodes))
        return tuple(kernels)

    def _forget_identities(self) -> None:
        for node in self._order:
            if node.op in REMOVED and node.domain == "" and node.inputs and node.inputs[0]:
                self._alias[node.outputs[0]] = self._real(node.inputs[0])

    def _integer_kernels(self) -> list[Kernel]:
        groups: list[IntegerGroup] = []
        for node in self._order:
            group = integer_group(node, self._table, self._target)
            if group is not None:
                groups.append(group)
        for group in groups:
            self._taken.update((group.node, *group.absorbed, *group.quantized))
        self._take_absorbed_dequantize(groups)
        return [self._integer_kernel(group) for group in groups]

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

    def _float_kernels(self) -> list[Kernel]:
        kernels = []
        for node in self._order:
            if node in self._taken or node in self._folded or self._is_removed(node):
                continue
            nodes, name = fused_with(node, self._taken)
            self._taken.update(nodes)
            weight = packed_weight(node)
            if weight is not None:
                kernels.append(self._packed_kernel(node, nodes, weight))
                continue
            sources = [v for n in nodes for v in (*n.inputs, *captured_values(n))]
            dtype = _arithmetic(node, self._target)
            kernel = self._kernel(node, nodes, name, dtype, sources, nodes[-1].outputs)
            kernels += [kernel] * (self._executions(node) if is_dequantize(node) else 1)
        return self._without_packed_weights(kernels)

    def _packed_kernel(self, node: Node, nodes: tuple[Node, ...], weight: Node) -> Kernel:
        sources = [node.inputs[0], weight.inputs[0], *(v for n in nodes[1:] for v in n.inputs)]
        covered = (weight, *nodes)
        dtype = "int8" if has_packed_integers(self._target) else "float32"
        return self._kernel(node, covered, "MatMulNBits", dtype, sources, nodes[-1].outputs)

    def _without_packed_weights(self, kernels: list[Kernel]) -> list[Kernel]:
        """Drop the DQ kernels whose only reader reads the packed integers itself."""
        packed = {n for k in kernels if k.name == "MatMulNBits" for n in k.nodes}
        return [k for k in kernels if not (is_dequantize(k.node) and k.node in packed)]

    def _kernel(
        self,
        node: Node,
        nodes: tuple[Node, ...],
        name: str,
        dtype: str,
        sources: Sequence[Value | None],
        writes: Sequence[Value],
    ) -> Kernel:
        inside = {v for n in nodes for v in n.outputs}
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
            layout=_layout(node, dtype, self._target),
        )

    def _real(self, value: Value) -> Value:
        return self._alias.get(value, value)

    def _is_known(self, value: Value) -> bool:
        return value.is_constant or value.is_initializer or value.producer in self._folded

    def _is_removed(self, node: Node) -> bool:
        if is_dequantize(node) and not node.outputs[0].uses and not node.outputs[0].is_output:
            return True
        return node.op in REMOVED and node.domain == ""


def _arithmetic(node: Node, target: Target) -> str:
    """Return what a kernel outside Q and DQ computes in."""
    if arithmetic(node, target) == "integer" or node.op.startswith("QLinear"):
        return "int8"
    types = {v.dtype for v in node.outputs[:1]}
    if types <= _INTEGERS and node.op != "QuantizeLinear":
        return "int8"
    return "float16" if DType.FLOAT16 in types else "float32"


def _layout(node: Node, dtype: str, target: Target) -> str:
    """Return the layout that a convolution is executed in; others follow their inputs."""
    if node.op not in CONVOLUTIONS:
        return "plain"
    layout = target.compute.layouts.get(dtype, "plain")
    product = product_of(node)
    block = target.compute.alignment.get(dtype, 1)
    grouped = product is not None and product.groups > 1 and product.inputs > 1
    if layout == "blocked" and grouped and product is not None and product.inputs % block:
        return "plain"
    return layout
