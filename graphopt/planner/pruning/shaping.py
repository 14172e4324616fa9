"""A model with the shapes of a choice, to see how large and fast it would be, without any fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from graphopt.passes.prune.assemble import cut_out
from graphopt.passes.prune.branches.linear import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from graphopt.analysis.branches import Branch
    from graphopt.analysis.coupling import Coupling, Cut
    from graphopt.ir import Graph, Value
    from graphopt.passes.prune.branches.fit import Fitted
    from graphopt.passes.prune.branches.linear import Linear
    from graphopt.planner.pruning.knapsack import Option
    from graphopt.planner.pruning.trials import Trials

    Array = np.ndarray[Any, Any]


def widths_in(chosen: Sequence[Option], coupling: Coupling) -> dict[str, str]:
    """Return "COUNT@CRITERION" of the groups among some options, by name."""
    groups = {group.name for group in coupling.groups}
    return {o.site: o.label for o in chosen if o.site in groups}


def kinds_in(chosen: Sequence[Option], coupling: Coupling) -> dict[str, Kind]:
    """Return what becomes of the branches among some options, by name."""
    groups = {group.name for group in coupling.groups}
    return {o.site: Kind(o.label) for o in chosen if o.site not in groups}


def shaped(trials: Trials, chosen: Sequence[Option]) -> Graph:
    """Return the graph as a choice leaves it: its weights are cut, and not fitted to anything.

    Args:
        trials: have the units that stay, and what stands for branches.
        chosen: one option of a site at most.
    """
    sites = {site.name: site for site in trials.widths}
    keeps: dict[str, Array] = {}
    for name, label in widths_in(chosen, trials.coupling).items():
        count, _, by = label.partition("@")
        keeps[name] = trials.units(sites[name])[int(count), by]
    kinds = kinds_in(chosen, trials.coupling)
    cut = trials.coupling.cut(keeps)
    fits = {
        b.name: _sliced(trials.fitted[b.name], b, cut) for b in trials.branches if b.name in kinds
    }
    return cut_out(trials.graph, cut, kinds, trials.context, fitted=fits)


def _sliced(fitted: Fitted, branch: Branch, cut: Cut) -> Fitted:
    """Return what was fitted for a branch, for the channels that are left of its two ends."""
    given, made = (_kept(value, fitted, cut) for value in (branch.entry, branch.exit))
    linears = {kind: _narrow(each, given, made) for kind, each in fitted.linears.items()}
    mean = fitted.mean if made is None or fitted.mean is None else fitted.mean[made]
    return dataclasses.replace(fitted, linears=linears, mean=mean)


def _kept(value: Value, fitted: Fitted, cut: Cut) -> Array | None:
    rank = len(value.shape or ())
    return cut.keep(value, fitted.channel_axis % rank) if rank else None


def _narrow(linear: Linear, given: Array | None, made: Array | None) -> Linear:
    weight, bias = linear.weight, linear.bias
    outputs, inputs = (0, 1) if linear.strides else (1, 0)
    if made is not None:
        weight, bias = weight.compress(made, axis=outputs), bias[made]
    if given is not None:
        weight = weight.compress(given, axis=inputs)
    return dataclasses.replace(linear, weight=weight, bias=bias)
