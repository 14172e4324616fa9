"""The minimum cuts of one model: what they need is made once, then asked for any limit."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.planner.assignment.connections import OUTSIDE
from graphopt.planner.assignment.costs import problem_of
from graphopt.planner.assignment.kernels import find_kernels
from graphopt.planner.assignment.noise import gated_model, noises_of
from graphopt.planner.assignment.precisions import FP32, applied
from graphopt.planner.assignment.sweep import corner_of, swept
from graphopt.planner.assignment.within import fastest_within, neighbours_of
from graphopt.planner.assignment.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.planner.assignment.gated import GatedModel
    from graphopt.planner.assignment.problem import Labels, Problem
    from graphopt.planner.assignment.sweep import Sweep

_SOLVES = 64
_LARGE = 300
"""Kernels above which fewer minimisations are made: each takes longer."""
_LARGE_SOLVES = 16
_MOST_BYTES = 256 << 20
"""Constants above which the model with switches would be too large to hold."""


@dataclass(frozen=True)
class Choice:
    """A precision for every kernel, and what the problem says of it.

    Args:
        chosen: the labelling of the problem.
        labels: precision by the kernel's name.
        steps: the passes that make the model so.
        time_us: predicted by kernels and borders.
        noise: noise power over signal power, kernel by kernel added up.
    """

    chosen: Labels
    labels: Mapping[str, str] = field(hash=False)
    steps: tuple[Pass, ...]
    time_us: float
    noise: float

    @property
    def floats(self) -> frozenset[str]:
        """The kernels that stay as they are."""
        return frozenset(n for n, label in self.labels.items() if label == FP32)

    @property
    def words(self) -> str:
        """How many kernels have which precision."""
        found = Counter(self.labels.values())
        return ", ".join(f"{found[label]} {label}" for label in sorted(found))


class Assigner:
    """The problem of one model, solved for as many limits as are asked for.

    Args:
        graph: ready for the first of ``steps``; not changed.
        steps: settled passes (``precisions.settled``).
        context: has the calibrated ranges and the cost model.
        verifier: compares with the original.
    """

    def __init__(
        self, graph: Graph, steps: Sequence[Pass], context: PipelineContext, verifier: Verifier
    ) -> None:
        self.bench = Workbench(graph, steps, context, verifier)
        self.is_small = ir.tensor_bytes(graph) <= _MOST_BYTES
        self.kernels = find_kernels(self.bench)
        self._corrected: Problem | None = None

    @property
    def is_possible(self) -> bool:
        """Whether there is anything to choose, and a model with switches can be held."""
        return self.is_small and bool(self.kernels.names) and self.bench.context.has_data

    @cached_property
    def gated(self) -> GatedModel:
        """The model with a switch for each kernel."""
        return gated_model(self.bench, self.kernels)

    @cached_property
    def problem(self) -> Problem:
        """Times, noises and borders."""
        return problem_of(self.bench, self.kernels, noises_of(self.bench, self.gated))

    @cached_property
    def sweep(self) -> Sweep:
        """The labellings that are cheapest at some price of noise."""
        large = len(self.problem.names) > _LARGE
        return swept(self.problem, _LARGE_SOLVES if large else _SOLVES)

    def within(self, noise: float) -> Choice | None:
        """Return the fastest choice whose noises add up to at most this; None if there is none."""
        problem = self._corrected or self.problem
        corners = [corner_of(problem, c.chosen) for c in self.sweep.corners]
        found = fastest_within(problem, noise, corners)
        return self.choice(found.chosen) if found is not None else None

    @property
    def quietest(self) -> Choice:
        """The choice of least noise: everything in fp32, usually."""
        return self.choice(self.sweep.corners[-1].chosen)

    def around(self, choice: Choice, bound: float) -> list[Choice]:
        """Return the choices one change away, or one exchange within a bound on the noise."""
        problem = self._corrected or self.problem
        found = neighbours_of(problem, choice.chosen, bound, self.sweep.corners)
        return [self.choice(c) for c in sorted(found)]

    def correct(self, choice: Choice, factor: float) -> None:
        """Scale what is known of the noise of the kernels that a choice quantizes."""
        problem = self._corrected or self.problem
        noises = tuple(
            tuple(
                n * factor if label == choice.labels.get(name) else n
                for label, n in zip(problem.labels, row, strict=True)
            )
            for name, row in zip(problem.names, problem.noises, strict=True)
        )
        self._corrected = dataclasses.replace(problem, noises=noises)

    def forget(self) -> None:
        """Go back to the noises as they were measured."""
        self._corrected = None

    def choice(self, chosen: Labels) -> Choice:
        """Return a labelling of the problem as a choice, its noise by what is known now."""
        problem = self._corrected or self.problem
        named = zip(problem.names, chosen, strict=True)
        labels = {name: problem.labels[label] for name, label in named if name != OUTSIDE}
        steps = applied(self.bench.steps, labels, self.kernels.possible)
        return Choice(chosen, labels, steps, problem.time(chosen), problem.noise(chosen))

    def joint_noise(self, choice: Choice) -> float:
        """Return the noise of a choice with all its kernels together, on the same samples."""
        return self.gated.noise([gate for gate in choice.labels.items() if gate[1] != FP32])


def to_db(noise: float) -> float:
    """Return a signal-to-noise ratio in dB."""
    return -10 * math.log10(noise) if noise > 0 else math.inf


def from_db(ratio_db: float) -> float:
    """Return noise power over signal power."""
    return float(10 ** (-ratio_db / 10))
