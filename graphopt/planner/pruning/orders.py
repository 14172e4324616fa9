"""In which order a model is pruned and quantized: what each is decided by, and how they compare.

Either way the layers that are left are quantized last, with ranges of their own. What differs is
what the choice rests on. Pruned first, an option is worth the time that it saves in float.
Quantized first, it is worth what it saves between integers, which is little for narrower layers and
much for operators that are gone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.passes.prune.prune_channels import BOTH_ORDERS, PRUNE_FIRST, QUANTIZE_FIRST
from graphopt.planner.pruning.clock import Clock, Ledger
from graphopt.planner.pruning.integer_clock import IntegerClock, IntegerLedger
from graphopt.report import OrderRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.errors import PassError
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Metric
    from graphopt.planner.pruning.quantizer import Quantizer

    Feed = Mapping[str, np.ndarray[Any, Any]]
    Meter = Clock | Ledger


@dataclass
class Meters:
    """What options are priced by.

    Args:
        plain: the figure of models as they stand.
        integer: that of their quantized form; None where nothing is quantized.
    """

    plain: Meter
    integer: Meter | None
    _scale: float | None = None

    @classmethod
    def of(
        cls,
        context: Context,
        metric: Metric,
        feed: Feed,
        quantize: Quantizer | None,
        *,
        timed: bool,
    ) -> Meters:
        """Return the meters of a metric.

        Args:
            context: of the compile.
            metric: of the goal.
            feed: a sample, to time models on.
            quantize: makes the quantized form of a graph; None where nothing is quantized.
            timed: whether time is measured on this machine.
        """
        target = context.target
        plain: Meter = Clock(target, feed) if timed else Ledger(context, metric)
        if quantize is None:
            return cls(plain, None)
        if timed:
            return cls(plain, IntegerClock(target, feed, quantize.roughly))
        return cls(plain, IntegerLedger(context, metric, quantize.roughly))

    @property
    def final(self) -> Meter:
        """What says whether the goal is reached."""
        return self.plain if self.integer is None else self.integer

    def prices(self, order: str) -> dict[str, Meter]:
        """Return what prices options, by the orders to try; one where nothing is quantized."""
        if self.integer is None:
            return {PRUNE_FIRST: self.plain}
        found = {PRUNE_FIRST: self.plain, QUANTIZE_FIRST: self.integer}
        return found if order == BOTH_ORDERS else {order: found[order]}

    def scale(self, order: str, graph: Graph, now: float) -> float:
        """Return what a price of an order is, about, where the goal's figure is one.

        Args:
            order: whose prices.
            graph: before anything is removed.
            now: its figure.
        """
        if self.integer is None or order != PRUNE_FIRST:
            return 1.0
        if self._scale is None:
            self._scale = self.plain.total(graph) / max(now, 1e-12)
        return self._scale


@dataclass
class OrderBook:
    """What became of each order that was tried."""

    _found: dict[str, OrderRecord] = field(default_factory=dict)
    _failed: dict[str, PassError] = field(default_factory=dict)

    def add(self, order: str, figure: float, divergence: float, *, kept: bool) -> None:
        """Enter a model; of each order the one that diverges least counts."""
        known = self._found.get(order)
        if kept or known is None or self._is_better(known, divergence):
            self._found[order] = OrderRecord(order, figure, divergence, kept)

    @staticmethod
    def _is_better(known: OrderRecord, divergence: float) -> bool:
        return not known.kept and divergence < (known.divergence or 0.0)

    def failed(self, order: str, error: PassError) -> None:
        """Enter an order that does not reach the goal."""
        self._failed[order] = error

    def demand(self, reached: Sequence[object]) -> None:
        """Raise the first order's PassError when nothing that was made reaches the goal."""
        if not reached:
            raise next(iter(self._failed.values()))

    def records(self, unpruned: OrderRecord | None) -> tuple[OrderRecord, ...]:
        """Return what the report says, least divergence first; nothing without integers.

        Args:
            unpruned: the quantized model from which nothing was removed, without a figure where it
                stays in float; None where no other order was asked for.
        """
        if unpruned is None:
            return ()
        if unpruned.figure is None:
            return (unpruned,)
        found = sorted(self._found.values(), key=lambda r: (not r.kept, r.divergence))
        failed = [
            OrderRecord(order, None, None, kept=False, why=error.message)
            for order, error in self._failed.items()
        ]
        return (unpruned, *(self._reasoned(record) for record in found), *failed)

    def _reasoned(self, record: OrderRecord) -> OrderRecord:
        if not record.kept:
            kept = (r for r in self._found.values() if r.kept)
            same = any((r.figure, r.divergence) == (record.figure, record.divergence) for r in kept)
            return dataclasses.replace(record, why="the same model" if same else "diverges more")
        rivals = len(self._found) + len(self._failed)
        return dataclasses.replace(record, why="diverges least" if rivals > 1 else "asked for")
