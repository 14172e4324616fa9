"""What a search trains: for how many steps, with which overrides, by which version of what."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import TYPE_CHECKING

from graphopt.passes.elsewhere import PACKAGES
from graphopt.planner.joint.training import training_rounds
from graphopt.recipe import PassEntry
from graphopt.recipe.recovery import FLOAT_SHARE, QUANTIZING, TRAINING, training_places

if TYPE_CHECKING:
    from graphopt.api.searching.choice import Choice
    from graphopt.api.searching.ground import Ground
    from graphopt.planner.joint import Candidate
    from graphopt.planner.joint.strategy import Rounds
    from graphopt.recipe import Recipe, Recovery

TRIES = {"quick": 1, "normal": 2, "thorough": 3}
"""How many models are trained, by effort; they share the time."""

MACS_PER_SECOND = 6e10
NODE_SECONDS = 1e-3
"""Assumed of steps with 32 samples on two cores: products, and all that an operator takes besides.
Only what is assumed lets one search try the same on all machines."""
UNFITTED = "prune-channels.refit=false"
"""Of what is trained: on samples that it was fitted to, no training would make it better."""
_BATCH = 32
_PASSES = 4
"""Of the network in a step: the teacher's, the student's, and twice that for gradients."""
_STEPS = (20, 20_000)


def trained_rounds(choice: Choice) -> Rounds:
    """Yield the rounds that train; nothing where no training was asked for."""
    ground, foreman, tries = choice.ground, choice.foreman, TRIES[choice.asked.effort.name]
    recovery = ground.recovery
    if recovery is None:
        return
    seconds = 60.0 * recovery.minutes / tries
    steps = recovery.steps or steps_for(seconds, _macs(ground), len(ground.graph.nodes()))

    def trained(candidate: Candidate) -> Candidate | None:
        return with_training(candidate, foreman.recipe_of(candidate), steps)

    rounds = training_rounds(choice.made(), choice.wanted, trained, tries)
    batch = next(rounds, ())
    while batch:
        if foreman.seconds_left() < seconds:
            foreman.stopped = True
            return
        try:
            batch = rounds.send((yield batch))
        except StopIteration:
            return


def steps_for(seconds: float, macs: int, nodes: int) -> int:
    """Return about how many steps of training a time is worth; the same on every machine.

    Args:
        seconds: the time.
        macs: multiply-accumulates of one inference of the model.
        nodes: its operators.
    """
    each = _PASSES * _BATCH * macs / MACS_PER_SECOND + NODE_SECONDS * nodes
    low, high = _STEPS
    return min(max(round(seconds / each), low), high)


def with_training(candidate: Candidate, recipe: Recipe, steps: int) -> Candidate | None:
    """Return a candidate that is trained for so many steps in all; None where nothing can be.

    What is pruned is trained in float first. What turns out not to be quantized is not trained
    once more.
    """
    uses = [entry.use for entry in recipe.passes]
    places = [i for i, use in enumerate(uses) if use == TRAINING]
    quantized = [any(use in QUANTIZING for use in uses[:place]) for place in places]
    both = candidate.is_pruned and len(set(quantized)) > 1
    told = []
    for number, after in enumerate(quantized, start=1):
        if not after and not candidate.is_pruned:
            continue
        share = (1.0 - FLOAT_SHARE if after else FLOAT_SHARE) if both else 1.0
        told.append(f"{TRAINING}#{number}.steps={max(1, round(share * steps))}")
    if not told:
        return None
    if candidate.is_pruned:
        told.append(UNFITTED)
    made = candidate.having(f"{candidate.label}, trained for {steps} steps", *told)
    return dataclasses.replace(made, trainer=_trainer())


def with_idle_training(recipe: Recipe) -> Recipe:
    """Return a recipe with passes that would train, without any time, where it has none."""
    if any(entry.use == TRAINING for entry in recipe.passes):
        return recipe
    entries = list(recipe.passes)
    for place in reversed(training_places([e.use for e in entries])):
        entries.insert(place, PassEntry(TRAINING))
    return dataclasses.replace(recipe, passes=tuple(entries))


def without_idle_training(recipe: Recipe) -> Recipe:
    """Return a recipe without passes that have no time to train: it makes the same."""

    def trains(entry: PassEntry) -> bool:
        return any(entry.options.get(name) for name in ("minutes", "steps"))

    kept = (e for e in recipe.passes if e.use != TRAINING or trains(e))
    return dataclasses.replace(recipe, passes=tuple(kept))


def _macs(ground: Ground) -> int:
    return ground.context.cost.estimate(ground.graph, ground.target).macs


def _trainer() -> str:
    """Return the versions of what trains."""
    return " ".join(_version(name) for name in (PACKAGES[TRAINING], "torch"))


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def extra_seconds(recovery: Recovery | None) -> float:
    """Return by how much training prolongs a search whose time was not stated."""
    return 0.0 if recovery is None else 60.0 * recovery.minutes
