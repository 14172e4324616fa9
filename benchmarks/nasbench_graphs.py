"""NAS-Bench-201 cells as ONNX graphs: what is executed, in the macro structure of the benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphopt import ir
from graphopt.cost import group_kernels
from graphopt.cost.signature import signature_of

if TYPE_CHECKING:
    from graphopt.cost.signature import Signature
    from graphopt.targets.base import Target

Edge = tuple[int, int, str]
"""From node, to node, operator."""

Rule = Literal["eager", "converted"]

CONVOLUTIONS = {"nor_conv_3x3": 3, "nor_conv_1x1": 1}
CELLS = 5
"""Equal cells in each of the three stages."""

_STAGES = ((16, 32), (32, 16), (64, 8))
"""Channels and side of the images."""

_OUTPUT = 3


def parse(arch: str) -> tuple[Edge, ...]:
    """Return the six edges of ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    edges = []
    for node, part in enumerate(arch.split("+"), start=1):
        for token in part.strip("|").split("|"):
            op, source = token.split("~")
            edges.append((int(source), node, op))
    return tuple(edges)


def is_connected(edges: tuple[Edge, ...]) -> bool:
    """Whether the cell's output depends on its input."""
    reached = {0}
    for source, node, op in edges:  # in order of nodes
        if op != "none" and source in reached:
            reached.add(node)
    return _OUTPUT in reached


def executed(edges: tuple[Edge, ...], rule: Rule) -> tuple[Edge, ...]:
    """Return the edges that a runtime executes; what is left of a folded ``none`` is ``zero``.

    ``eager``: all of them, ``none`` as a product with 0. ``converted``: only what the output
    reads; ``none`` disappears, but where it reads a node made by one convolution alone, the product
    with 0 is folded into that convolution's weights, and it is executed (reference 2.1).
    """
    if rule == "eager":
        return edges
    live, kept = {_OUTPUT}, []
    for source, node, op in reversed(edges):
        if node not in live:
            continue
        if op != "none":
            kept.append((source, node, op))
            live.add(source)
        elif _is_lone_convolution(edges, source):
            kept.append((source, node, "zero"))
            live.add(source)
    return tuple(reversed(kept))


def _is_lone_convolution(edges: tuple[Edge, ...], node: int) -> bool:
    made_by = [op for _, target, op in edges if target == node and op != "none"]
    return len(made_by) == 1 and made_by[0] in CONVOLUTIONS


def work(edges: tuple[Edge, ...]) -> tuple[str, ...]:
    """Return the operators that executed edges become, sorted: equal ones have equal kernels."""
    found = [op for *_, op in edges if op not in {"skip_connect", "zero"}]
    for node in range(1, _OUTPUT + 1):
        found += ["add"] * (sum(target == node for _, target, _ in edges) - 1)
    return tuple(sorted(found))


def kernels(edges: tuple[Edge, ...], target: Target) -> tuple[Signature, ...]:
    """Return the kernels of the whole network with these executed edges in every cell.

    The graph has one cell per stage; its kernels count `CELLS` times.
    """
    graph = network(edges)
    ir.infer_shapes(graph)
    found = []
    for kernel in group_kernels(graph, target):
        times = CELLS if kernel.node.name.startswith("cell") else 1
        found += [signature_of(kernel)] * times
    return tuple(found)


def network(edges: tuple[Edge, ...], cells: int = 1) -> ir.Graph:
    """Return the network, batch normalization folded into the convolutions.

    Every convolution's output is an output of the graph too, so that nothing is fused into it: the
    runtimes of these measurements do not add residuals inside of a convolution.
    """
    build = _Builder()
    x = build.convolution("stem", "x", (3, 16), 3)
    channels = 16
    for stage, (width, _) in enumerate(_STAGES):
        if width != channels:
            x = build.reduction(f"reduce{stage}", x, channels, width)
        channels = width
        for index in range(cells):
            x = build.cell(f"cell{stage}_{index}", x, width, edges)
    return ir.from_bytes(build.model(build.head("head", x)).SerializeToString())


class _Builder:
    """Collects nodes; constants of one shape are shared."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def constant(self, *shape: int) -> str:
        name = "w" + "x".join(map(str, shape))
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.zeros(shape, np.float32), name)
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolution(
        self, name: str, x: str, widths: tuple[int, int], side: int, stride: int = 1
    ) -> str:
        weight = self.constant(widths[1], widths[0], side, side)
        pads, strides = [side // 2] * 4, [stride, stride]
        return self.op(
            "Conv", name, x, weight, self.constant(widths[1]), pads=pads, strides=strides
        )

    def reduction(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """Append the residual block of stride 2 between stages."""
        first = self.op("Relu", f"{name}_r0", x)
        first = self.convolution(f"{name}_c0", first, (inputs, outputs), 3, 2)
        second = self.op("Relu", f"{name}_r1", first)
        second = self.convolution(f"{name}_c1", second, (outputs, outputs), 3)
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        short = self.op("AveragePool", f"{name}_p", x, **window)
        short = self.convolution(f"{name}_c2", short, (inputs, outputs), 1)
        return self.op("Add", f"{name}_a", second, short)

    def cell(self, name: str, x: str, width: int, edges: tuple[Edge, ...]) -> str:
        """Append one cell; a node that nothing is summed into stands for its input."""
        made = {0: x}
        for node in range(1, _OUTPUT + 1):
            summed = ""
            for source, target, op in edges:
                if target == node:
                    label = f"{name}_{source}{node}"
                    term = self.edge(label, made[source], width, op)
                    summed = self.op("Add", f"{label}_sum", summed, term) if summed else term
            made[node] = summed or x
        return made[_OUTPUT]

    def edge(self, name: str, x: str, width: int, op: str) -> str:
        if op in CONVOLUTIONS:
            relu = self.op("Relu", f"{name}_relu", x)
            return self.convolution(name, relu, (width, width), CONVOLUTIONS[op])
        if op == "avg_pool_3x3":
            window = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 0}
            return self.op("AveragePool", name, x, **window)
        return self.op("Mul", name, x, self.constant(1)) if op == "none" else x

    def head(self, name: str, x: str) -> str:
        x = self.op("Relu", f"{name}_r", x)
        x = self.op("Flatten", f"{name}_f", self.op("GlobalAveragePool", f"{name}_p", x))
        return self.op("Gemm", name, x, self.constant(64, 10), self.constant(10))

    def model(self, output: str) -> onnx.ModelProto:
        side = _STAGES[0][1]
        graph = helper.make_graph(
            self.nodes,
            "nasbench201",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
            [
                helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 10]),
                *(
                    helper.make_empty_tensor_value_info(n.name)
                    for n in self.nodes
                    if n.op_type == "Conv"
                ),
            ],
            list(self.weights.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
