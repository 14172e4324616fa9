"""What a finding costs: the operator and the Q and DQ around it, against its integer kernel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt.analysis.quantization import is_dequantize, is_quantize
from graphopt.cost import group_kernels
from graphopt.cost.latency import kernel_time
from graphopt.cost.shapes import sized
from graphopt.targets.fusion import fusion_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.analysis.quantization import Finding
    from graphopt.cost import Kernel
    from graphopt.ir import Graph, Node
    from graphopt.targets.base import Target

_STATIC = {"ConvInteger": "QLinearConv", "MatMulInteger": "QLinearMatMul"}


def finding_costs(
    graph: Graph, target: Target, findings: Iterable[Finding]
) -> dict[tuple[str, str], float]:
    """Return estimated milliseconds by (code, node): time now less time as an integer kernel.

    Only findings about speed have one (D1xx, D4xx). Several findings at one operator share its
    cost: it stands at the first. Q and DQ between two such operators count at both.
    """
    known, _ = sized(graph, {})
    kernels = {k.node.label: k for k in group_kernels(known, target)}
    costs: dict[tuple[str, str], float] = {}
    seen: set[str] = set()
    for finding in findings:
        kernel = kernels.get(finding.node)
        if finding.code[:2] not in {"D1", "D4"} or kernel is None or finding.node in seen:
            continue
        seen.add(finding.node)
        costs[finding.code, finding.node] = max(_lost_ms(kernel, kernels, target), 0.0)
    return costs


def _lost_ms(kernel: Kernel, kernels: dict[str, Kernel], target: Target) -> float:
    around = [kernels[n.label] for n in _around(kernel.node) if n.label in kernels]
    now = sum(_us(k, target) for k in [kernel, *around])
    rule = fusion_table(target.runtime).rule(kernel.node.op, kernel.node.domain)
    name = rule.kernel if rule is not None else _STATIC.get(kernel.node.op)
    if name is None:
        return (now - _us(kernel, target)) / 1e3
    return (now - _us(dataclasses.replace(kernel, dtype="int8", name=name), target)) / 1e3


def _around(node: Node) -> list[Node]:
    """Return the DQ before and the Q behind a node."""
    before = [v.producer for v in node.inputs if v is not None and is_dequantize(v.producer)]
    behind = [n for v in node.outputs for n in v.consumers if is_quantize(n)]
    return [*(n for n in before if n is not None), *behind]


def _us(kernel: Kernel, target: Target) -> float:
    return kernel_time(kernel, target, weights_in_cache=True).latency_us
