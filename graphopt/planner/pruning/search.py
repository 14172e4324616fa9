"""Choose what is pruned: try every option alone, put the best together, measure, correct.

Divergences of the options add up to about that of them all, so the least sum that saves enough is
sought. What they save adds up less well: the choice is made into a model, measured, and made again
with what was missing or too much.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.errors import PassError
from graphopt.passes.prune.goal import COUNTED, Goal
from graphopt.passes.prune.prune_channels import PRUNE_FIRST
from graphopt.passes.prune.result_cache import content_key
from graphopt.planner.pruning.blocks import build_blocks
from graphopt.planner.pruning.clock import Clock
from graphopt.planner.pruning.knapsack import allocate
from graphopt.planner.pruning.orders import Meters, OrderBook
from graphopt.planner.pruning.scorebook import ScoreBook, score_path
from graphopt.planner.pruning.scores import Scorer
from graphopt.planner.pruning.shaping import kinds_in, shaped, widths_in
from graphopt.planner.pruning.sites import WidthSite, width_sites
from graphopt.planner.pruning.trials import Trials
from graphopt.report import OrderRecord, PrunedSite, PruningRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.prune.prune_channels import PruneChannels
    from graphopt.passes.prune.samples import Fitting
    from graphopt.pipeline import PipelineContext
    from graphopt.planner.pruning.knapsack import Block, Option
    from graphopt.planner.pruning.quantizer import Quantizer
    from graphopt.planner.pruning.trials import Meter

    Array = np.ndarray[Any, Any]
    Options = Mapping[str, Sequence[Option]]

_ROUNDS = 6
_CLOSE = 0.02
"""Share of what is to be saved that may be saved too much before less is tried."""
_POWERS = (1.0, 0.75, 1.4)
"""Of losses, for choices that differ in how much they fear a single large one."""
_MOST_SCORED = 256 << 20
"""Bytes of samples that are held for scores."""


@dataclass(frozen=True)
class PruningDecision:
    """What is to be pruned, and what that rests on."""

    step: PruneChannels
    record: PruningRecord


@dataclass(frozen=True)
class _Found:
    """One choice, measured, and by which order of pruning and quantizing it was made."""

    chosen: tuple[Option, ...]
    figure: float
    order: str

    @property
    def loss(self) -> float:
        return sum(option.loss for option in self.chosen)


def choose_pruning(
    graph: Graph,
    step: PruneChannels,
    context: PipelineContext,
    *,
    measure: bool,
    original: Graph | None = None,
    quantize: Quantizer | None = None,
) -> PruningDecision:
    """Return the pass with its widths and branches settled.

    Args:
        graph: as the pass will find it; not changed.
        step: says what to reach.
        context: data, target, rules.
        measure: whether time is measured on this machine; else it is estimated.
        original: what shares are of: the model as it was given; ``graph`` when None.
        quantize: makes the quantized form of a graph, which the goal is of then, and whose outputs
            are compared; in the order that the step says. None to decide on the float model alone.

    Raises:
        PassError: G308, not even everything is enough, or there are no data.
    """
    return _Search(graph, step, context, measure, quantize).run(original or graph)


class _Search:
    def __init__(
        self,
        graph: Graph,
        step: PruneChannels,
        context: PipelineContext,
        measure: bool,
        quantize: Quantizer | None,
    ) -> None:
        self.graph = graph.copy()
        ir.infer_shapes(self.graph)
        self.step = step
        self.context = context
        self.goal = Goal.parse(step.to)
        feeds = list(_held_out(step.trying, context))
        if not feeds:
            raise _without_samples(step, context)
        self.coupling = couple(self.graph, context.coupling_rules)
        timed = measure and self.goal.metric == "latency"
        self.meters = Meters.of(context, self.goal.metric, feeds[0], quantize, timed=timed)
        self.meter = self.meters.final
        self.quantize = quantize
        self.orders = OrderBook()
        told = step.trying, step.exclude, step.plugged_in(context)
        key = content_key(self.graph, context, "options", *told)
        self.book = ScoreBook(Scorer(self.graph, feeds), score_path(key))

    def run(self, original: Graph) -> PruningDecision:
        trials = self._trials()
        now = self.meter.total(self.graph)
        self.given = self._figure_of_given(original, now)
        self.limit = self.goal.limit(self.given)
        if now <= self.limit and self.quantize is None:
            # What simplified the model was enough: nothing has to be tried.
            best = _Found((), now, PRUNE_FIRST)
            return PruningDecision(self._settled(best), self._record(trials, {}, best, now))
        options = {
            order: self._tried(trials, meter)
            for order, meter in self.meters.prices(self.step.order).items()
        }
        best = self._finalist(trials, options, now)
        return PruningDecision(self._settled(best), self._record(trials, options, best, now))

    def _figure_of_given(self, original: Graph, now: float) -> float:
        """Return the figure of the model that was given, which exact passes have changed.

        Once quantized, the model from which nothing was removed is what shares are of.
        """
        if self.quantize is not None:
            return now
        if isinstance(self.meter, Clock):
            return now / self.meter.ratio(self.graph, original)
        return self.meter.total(original)

    def _trials(self) -> Trials:
        step, how = self.step, self.step.thoroughness
        sites = width_sites(self.coupling, self.graph.nodes(), how.near, how.far)
        free = tuple(site for site in sites if not step.leaves(site.group))
        criteria = {name: step.importance(name, self.context) for name in step.criteria}
        return Trials(
            self.graph, self.coupling, free, self.context, criteria, step.trying, self.book
        )

    def _tried(self, trials: Trials, meter: Meter) -> dict[str, tuple[Option, ...]]:
        """Return the options of every site, each made, timed and scored."""
        found: dict[str, tuple[Option, ...]] = {}
        excluded = set(self.step.exclude)
        steps = [*trials.widths, *(b for b in trials.branches if b.name not in excluded)]
        for each in self.context.progress(steps, len(steps), "trying what can go"):
            if isinstance(each, WidthSite):
                made = trials.width_options(each, meter)
            else:
                made = trials.branch_options(each, meter)
            found[each.name] = tuple(made)
        return found

    def _finalist(self, trials: Trials, options: Mapping[str, Options], now: float) -> _Found:
        """Return the choice whose model, fitted, and quantized where asked, diverges least."""
        finalists: list[_Found] = []
        for order, tried in options.items():
            try:
                finalists += self._finalists(trials, tried, now, order)
            except PassError as error:
                self.orders.failed(order, error)
        self.orders.demand(finalists)
        if len(finalists) == 1 and self.quantize is None:
            return finalists[0]
        steps = self.context.progress(finalists, len(finalists), "building finalists")
        apart = {id(each): self._divergence(each) for each in steps}
        best = min(finalists, key=lambda each: (apart[id(each)], each.figure))
        for each in finalists:
            self.orders.add(each.order, each.figure, apart[id(each)], kept=each is best)
        return best

    def _finalists(
        self, trials: Trials, options: Options, now: float, order: str
    ) -> Sequence[_Found]:
        """Return the choices of one order that may be the best.

        Sums of single divergences are a little wrong, the more so the larger the parts. So choices
        that fear one large loss more, or less, are made as well.
        """
        found: dict[frozenset[Option], _Found] = {}
        for power in _POWERS[: self.step.thoroughness.finalists]:
            weighed = {
                name: tuple(dataclasses.replace(o, loss=o.loss**power) for o in each)
                for name, each in options.items()
            }
            blocks = build_blocks(trials.widths, trials.branches, weighed)
            best = self._best(trials, blocks, now, order)
            known = {(o.site, o.label): o for each in options.values() for o in each}
            chosen = tuple(known[o.site, o.label] for o in best.chosen)
            found.setdefault(frozenset(chosen), _Found(chosen, best.figure, order))
        return list(found.values())

    def _divergence(self, found: _Found) -> float:
        """Return the divergence of the model that a choice makes."""
        made = self.graph.copy()
        with self.context.without_explanations():
            step = dataclasses.replace(self._settled(found), refit=False)
            result = step.run(made, self.context)
        if self.quantize is not None:
            return self.book.scorer.divergence(self.quantize(made))
        return float(result.metrics.get("divergence", found.loss))

    def _settled(self, found: _Found) -> PruneChannels:
        """Return the pass that does what was chosen."""
        widths, kinds = (
            widths_in(found.chosen, self.coupling),
            kinds_in(found.chosen, self.coupling),
        )
        return dataclasses.replace(
            self.step,
            to="",
            widths=tuple(f"{name}={width}" for name, width in widths.items()),
            branches=tuple(f"{name}={kind}" for name, kind in kinds.items()),
        )

    def _best(self, trials: Trials, blocks: Sequence[Block], now: float, order: str) -> _Found:
        """Return the choice with the least loss that reaches the goal."""
        limit = self.limit
        wanted = max(now - limit, 0.0)
        asked = wanted * self.meters.scale(order, self.graph, now)
        reached: list[_Found] = []
        for _ in range(_ROUNDS):
            chosen = allocate(blocks, asked)
            if chosen is None:
                break
            found = _Found(chosen, self._figure(trials, chosen, now), order)
            saved = now - found.figure
            if found.figure <= limit:
                reached.append(found)
            if wanted <= saved <= wanted * (1 + _CLOSE):
                break
            asked *= max(0.5, min(1.5, wanted * (1 + _CLOSE / 2) / max(saved, wanted / 10)))
        if not reached:
            raise PassError(
                f"`{self.step.to}` cannot be reached: all that can go saves too little",
                code="G308",
                hint="ask for less; `graphopt analyze --pruning MODEL` shows what can go",
            )
        return min(reached, key=lambda f: (f.loss, f.figure))

    def _figure(self, trials: Trials, chosen: Sequence[Option], now: float) -> float:
        """Return what the figure would be, from a model with the right shapes."""
        made = shaped(trials, chosen)
        if isinstance(self.meter, Clock):
            return self.meter.ratio(made, self.graph) * now
        return self.meter.total(made)

    def _record(
        self,
        trials: Trials,
        options: Mapping[str, Options],
        best: _Found,
        now: float,
    ) -> PruningRecord:
        sizes = {site.name: site.group.size for site in trials.widths}
        return PruningRecord(
            goal=self.step.to,
            metric=self.goal.metric,
            before=self.given,
            limit=self.limit,
            after=best.figure,
            predicted_after=now - self._promised(best, now),
            predicted_divergence=best.loss,
            source="measured" if isinstance(self.meter, Clock) else "estimated",
            sites=tuple(
                PrunedSite(o.site, sizes.get(o.site), o.label, o.loss, o.gain) for o in best.chosen
            ),
            options=len({(o.site, o.label) for each in options.values() for o in _all(each)}),
            samples=self.book.scorer.samples,
            order=best.order,
            orders=self.orders.records(self._unpruned(now)),
        )

    def _promised(self, best: _Found, now: float) -> float:
        """Return what the options said that they save, in the unit of the figure."""
        gain = sum(option.gain for option in best.chosen)
        return gain / self.meters.scale(best.order, self.graph, now)

    def _unpruned(self, now: float) -> OrderRecord | None:
        """Return what the quantized model is worth when nothing is removed from it."""
        if self.quantize is None and self.step.order == PRUNE_FIRST:
            return None
        if self.quantize is None:
            counted = self.goal.metric in COUNTED
            why = "as large in integers" if counted else "what is left stays in float"
            return OrderRecord("", None, None, kept=False, why=why)
        apart = self.book.scorer.divergence(self.quantize(self.graph))
        return OrderRecord("", now, apart, kept=False, why="nothing removed")


def _without_samples(step: PruneChannels, context: PipelineContext) -> PassError:
    few = context.dataset is not None and len(context.dataset) > 0
    return PassError(
        f"`{step.to}` needs samples: "
        + ("one or two do not tell" if few else "without data nothing says")
        + " what can go",
        code="G308",
        hint="--data FILE, a few hundred unlabelled samples; or a model that still has "
        "BatchNormalization, and one float input of known size",
    )


def _held_out(samples: Fitting, context: PipelineContext) -> Iterator[Mapping[str, Array]]:
    """Yield the samples that scores are taken on, within the memory there is."""
    if context.dataset is None:
        return
    room = _MOST_SCORED
    for sample, feed in enumerate(context.dataset):
        if samples.scores(sample):
            room -= sum(values.nbytes for values in feed.values())
            if room < 0:
                return
            yield feed


def _all(options: Options) -> Iterator[Option]:
    for each in options.values():
        yield from each
