"""Assignments of precision as settings of passes, for a search to try: no timing, no randomness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.errors import GraphOptError
from graphopt.planner.assignment.assigner import Assigner, from_db, to_db
from graphopt.planner.assignment.precisions import overrides_of, settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.planner.assignment.assigner import Choice

SPAN_DB = 24.0
"""How much less noise than the fastest the quietest proposal has, about."""


@dataclass(frozen=True)
class Assignment:
    """One point of the sweep, as what a recipe says.

    Args:
        label: how reports call it.
        overrides: "pass.option=value", for a compile of the same recipe.
        labels: precision by the kernel's name.
        steps: the passes with these options.
        predicted_ms: by the cost model, of the model that the passes make.
        predicted_snr_db: measured on calibration samples with all the kernels together.
    """

    label: str
    overrides: tuple[str, ...]
    labels: Mapping[str, str] = field(hash=False)
    steps: tuple[Pass, ...] = field(repr=False)
    predicted_ms: float
    predicted_snr_db: float


def propose_assignments(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    verifier: Verifier,
    *,
    most: int = 6,
) -> tuple[Assignment, ...]:
    """Return a few assignments of precision, the fastest by prediction first.

    Each is slower and less noisy than the one before; the first is the fastest of all, be it the
    one with everything in integers or not. Without data, or where nothing can have another
    precision than fp32, there are none.

    Args:
        graph: ready for the first of ``steps``; not changed.
        steps: consecutive passes that quantize; open ones count as all-integer.
        context: has the calibrated ranges and the cost model.
        verifier: compares with the original.
        most: how many at most.
    """
    if not context.has_data or most < 1:
        return ()
    made: dict[tuple[Pass, ...], Assignment] = {}
    try:
        assigner = Assigner(graph, settled(steps), context, verifier)
        for choice in _spread(assigner, most) if assigner.is_possible else ():
            made.setdefault(choice.steps, _assignment(assigner, choice, steps))
    except GraphOptError as error:
        # A search has other candidates than those of a model that cannot be opened with switches.
        context.log.debug("no minimum cut", exc_info=error)
    return _front(made.values())


def _spread(assigner: Assigner, most: int) -> Iterator[Choice]:
    """Yield the fastest choice, then the fastest ones with less and less noise."""
    fastest = assigner.sweep.corners[0]
    yield assigner.choice(fastest.chosen)
    if fastest.noise <= 0:
        return
    for number in range(1, most):
        bound = fastest.noise * from_db(SPAN_DB * number / (most - 1))
        found = assigner.within(bound)
        if found is not None and found.noise > 0:
            yield found


def _assignment(assigner: Assigner, choice: Choice, before: Sequence[Pass]) -> Assignment:
    return Assignment(
        choice.words,
        overrides_of(before, choice.steps),
        choice.labels,
        choice.steps,
        assigner.bench.latency_ms(choice.steps),
        to_db(assigner.joint_noise(choice)),
    )


def _front(found: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Return those that no other is faster and less noisy than."""
    kept: list[Assignment] = []
    for each in sorted(found, key=lambda a: (a.predicted_ms, -a.predicted_snr_db)):
        if not kept or each.predicted_snr_db > kept[-1].predicted_snr_db:
            kept.append(each)
    return tuple(kept)
