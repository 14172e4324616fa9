"""The report layer by layer: the kernels of both models, matched, with what each costs and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import sized_once
from graphopt.report import KernelRecord, KernelsRecord, LayerRecord
from graphopt.runtime import HEAVY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from graphopt.cost.base import Estimate, KernelCost
    from graphopt.ir import Graph, Node, Value
    from graphopt.pipeline import PipelineContext
    from graphopt.report import (
        LayerSensitivity,
        OperatorRecord,
        PrecisionRecord,
        PruningRecord,
        SensitivityRecord,
    )

_AROUND = frozenset(
    {"Clip", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "Relu", "LeakyRelu",
     "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"}
)  # fmt: skip
"""Operators that a kernel is named after only where it has no other."""


@dataclass(frozen=True)
class Anatomy:
    """A graph as the kernels that it is executed as.

    Args:
        records: the kernels, in order of execution.
        mains: the operator that does the work of each, None for a copy between layouts.
        names: of each, the labels and results of the nodes that it covers, the main one first.
    """

    records: tuple[KernelRecord, ...]
    mains: tuple[Node | None, ...]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, graph: Graph, estimate: Estimate) -> Anatomy:
        """Find the nodes of the kernels of an estimate, and which kernel reads which."""
        known, _ = sized_once(graph, {})
        nodes = {node.label: node for node in reversed(known.nodes())}
        covered = [[nodes[n] for n in k.nodes if n in nodes] for k in estimate.kernels]
        mains = tuple(_main(group) for group in covered)
        reads = _reads(known, covered)
        records = tuple(map(_record, estimate.kernels, mains, reads))
        names = tuple(_names(main, group) for main, group in zip(mains, covered, strict=True))
        return cls(records, mains, names)

    def channels(self, index: int) -> int | None:
        """Return how many units the result of a product has."""
        main = self.mains[index]
        if main is None or main.op not in HEAVY:
            return None
        shape = main.outputs[0].shape
        if not shape:
            return None
        found = shape[1 if main.op.startswith("Conv") and len(shape) > 1 else -1]
        return found if isinstance(found, int) else None


def _main(group: Sequence[Node]) -> Node | None:
    for wanted in (lambda n: n.op in HEAVY, lambda n: n.op not in _AROUND, lambda _: True):
        found = next(filter(wanted, group), None)
        if found is not None:
            return found
    return None


def _names(main: Node | None, group: Sequence[Node]) -> tuple[str, ...]:
    ordered = [main, *(n for n in group if n is not main)] if main is not None else []
    names = [name for n in ordered if n is not None for name in _names_of(n)]
    return tuple(dict.fromkeys(names))


def _names_of(node: Node) -> list[str]:
    return [node.label, *(v.name for v in node.outputs if v.name)]


def _record(cost: KernelCost, main: Node | None, reads: tuple[int, ...]) -> KernelRecord:
    return KernelRecord(
        node=main.label if main is not None else "",
        op=main.op if main is not None else cost.kernel,
        kernel=cost.kernel,
        precision=cost.dtype,
        latency_us=cost.latency_us,
        nodes=len(cost.nodes),
        reads=reads,
    )


def _reads(graph: Graph, covered: Sequence[Sequence[Node]]) -> list[tuple[int, ...]]:
    """Return the kernels that each one reads from; what is no kernel hands on what it reads."""
    owner = {node: index for index, group in enumerate(covered) for node in group}
    behind: dict[str, frozenset[int]] = {}
    reads: dict[int, set[int]] = defaultdict(set)
    for node in graph.nodes():
        sources = frozenset[int]().union(*(behind.get(v.name, frozenset()) for v in _read_by(node)))
        own = owner.get(node)
        if own is not None:
            reads[own] |= sources - {own}
            sources = frozenset({own})
        behind.update((v.name, sources) for v in node.outputs)
    return [tuple(sorted(reads[index])) for index in range(len(covered))]


def _read_by(node: Node) -> Iterable[Value]:
    inner = (v for graph in node.subgraphs for n in graph.walk() for v in n.inputs)
    return (v for v in (*node.inputs, *inner) if v is not None)


@dataclass(frozen=True)
class Reasons:
    """Why layers are as they are, by the names that reports use."""

    operators: Sequence[OperatorRecord] = ()
    precision: PrecisionRecord | None = None
    pruning: PruningRecord | None = None
    sensitivity: SensitivityRecord | None = None

    def of(self) -> Callable[[Iterable[str]], str]:
        """Return what says why, of a layer by any of its names."""
        found: dict[str, list[str]] = defaultdict(list)
        for site in self.pruning.sites if self.pruning is not None else ():
            found[site.name].append(f"pruned: {site.left}")
        for returned in self.precision.returned if self.precision is not None else ():
            found[returned.node].append(returned.why)
        for operator in self.operators:
            if operator.reason and not found[operator.node]:
                found[operator.node].append(operator.reason)

        def why(names: Iterable[str]) -> str:
            said = (reason for name in names for reason in found.get(name, ()))
            return "; ".join(dict.fromkeys(filter(None, said)))

        return why


@dataclass(frozen=True)
class Told:
    """What the cost model says of both models, as a whole and layer by layer."""

    costs: tuple[Estimate, Estimate]
    layers: tuple[LayerRecord, ...]
    kernels: KernelsRecord


def told_by_layer(
    original: Graph, result: Graph, context: PipelineContext, reasons: Reasons
) -> Told:
    """Return the estimates of the original and of the result, and the rows of their layers."""
    old = context.cost.estimate(original, context.target)
    new = context.cost.estimate(result, context.target)
    before, after = Anatomy.of(original, old), Anatomy.of(result, new)
    kernels = KernelsRecord(before.records, after.records)
    return Told((old, new), layer_records(before, after, reasons), kernels)


def layer_records(before: Anatomy, after: Anatomy, reasons: Reasons) -> tuple[LayerRecord, ...]:
    """Return a row for each kernel of the original, and for each that only the result has."""
    rows = _Rows(before, after, reasons)
    matched = {i for found in rows.became.values() for i in found}
    added = (i for i in range(len(after.records)) if i not in matched)
    return (*map(rows.of, range(len(before.records))), *map(rows.added, added))


class _Rows:
    """Makes the rows of the layers."""

    def __init__(self, before: Anatomy, after: Anatomy, reasons: Reasons) -> None:
        self.before = before
        self.after = after
        self.became, self.covers = _matched(before, after)
        self._weight_only = {o.node for o in reasons.operators if o.execution == "weight-only"}
        self._noise = {n.node: n.isolated_db for n in _sensitivities(reasons)}
        self._why = reasons.of()

    def of(self, index: int) -> LayerRecord:
        """Return the row of a kernel of the original."""
        record, names = self.before.records[index], _all_names(self.before, index)
        found = [self.after.records[i] for i in self.became.get(index, ())]
        main = self._main(index)
        channels = self.before.channels(index)
        left = self.after.channels(main) if main is not None else None
        return LayerRecord(
            node=record.node,
            op=record.op,
            kernel_before=record.kernel,
            kernel_after=self.after.records[main].kernel if main is not None else "",
            precision_before=record.precision,
            precision_after=self._precision(main),
            channels_before=channels,
            channels_after=left,
            latency_before_us=record.latency_us,
            latency_after_us=sum(k.latency_us for k in found),
            snr_db=next((self._noise[n] for n in names if n in self._noise), None),
            why=self._reason(index, names, is_pruned=bool(channels and left and left < channels)),
        )

    def added(self, index: int) -> LayerRecord:
        """Return the row of a kernel that only the result has."""
        record = self.after.records[index]
        return LayerRecord(
            node=record.node,
            op=record.op,
            kernel_before="",
            kernel_after=record.kernel,
            precision_before="",
            precision_after=self._precision(index),
            channels_before=None,
            channels_after=self.after.channels(index),
            latency_before_us=0.0,
            latency_after_us=record.latency_us,
            why=self._why(self.after.names[index]),
        )

    def _main(self, index: int) -> int | None:
        """Return which of the kernels that a layer became does its work."""
        node, found = self.before.records[index].node, self.became.get(index, ())
        return max(found, key=lambda i: (self.after.records[i].node == node, i), default=None)

    def _precision(self, index: int | None) -> str:
        if index is None:
            return ""
        record = self.after.records[index]
        return "weight-only" if record.node in self._weight_only else record.precision

    def _reason(self, index: int, names: Iterable[str], *, is_pruned: bool) -> str:
        said = self._why(names)
        if is_pruned and "pruned: " not in said:
            said = "; ".join(filter(None, ["pruned: with the layers it is coupled to", said]))
        if said or index in self.became:
            return said
        if index in self.covers:
            return f"done by the kernel of `{self.after.records[self.covers[index]].node}`"
        is_copy = not self.before.records[index].node
        return "a copy between layouts that is not needed any more" if is_copy else ""


def _matched(
    before: Anatomy, after: Anatomy
) -> tuple[Mapping[int, Sequence[int]], Mapping[int, int]]:
    """Return what each kernel became, and for those that became none, who covers their result."""
    by_name: dict[str, int] = {}
    for index, names in enumerate(before.names):
        for name in names:
            by_name.setdefault(name, index)
    became: dict[int, list[int]] = defaultdict(list)
    covers: dict[int, int] = {}
    for index, names in enumerate(after.names):
        known = (*names, *_stands_for(after.mains[index]))
        found = [by_name[name] for name in known if name in by_name]
        if found:
            became[found[0]].append(index)
        covers.update((f, index) for f in found[1:])
    return dict(became), covers


def _stands_for(node: Node | None) -> list[str]:
    """Return what a node that a rewrite made may be named after (patterns/building.py)."""
    outputs = node.outputs if node is not None else ()
    return [v.name.removesuffix(f"_{node.op.lower()}") for v in outputs if node is not None]


def _all_names(anatomy: Anatomy, index: int) -> tuple[str, ...]:
    """Return the names of a kernel's nodes, results, and of the weights of its main operator."""
    main = anatomy.mains[index]
    weights = (v.name for v in main.inputs[1:] if v is not None) if main is not None else ()
    return (*weights, *anatomy.names[index])


def _sensitivities(reasons: Reasons) -> Iterable[LayerSensitivity]:
    return reasons.sensitivity.layers if reasons.sensitivity is not None else ()
