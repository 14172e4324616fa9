"""The memory plan of a graph: order, buffers, offsets, and what makes the peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import Buffer, Step, buffers, peak
from graphopt.cost.kernels import group_kernels
from graphopt.cost.planning.intervals import Interval
from graphopt.cost.planning.offsets import EFFORT, Placement, place
from graphopt.cost.planning.order import Ordering, find_order, step_bound
from graphopt.cost.shapes import sized
from graphopt.cost.sharing import Sharing, sharing_of, steps_of, tensor_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.targets.base import Target


@dataclass(frozen=True)
class Execution:
    """What is to be planned: steps in a valid order, and the tensors that they touch.

    Args:
        steps: kernels with what they read, write and may share.
        sizes: bytes of every tensor.
        inputs: tensors that the caller feeds: alive until their last use, never overwritten.
        outputs: tensors that the caller gets: alive until the end.
    """

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def buffers(self, order: Sequence[int]) -> tuple[Buffer, ...]:
        """Return the buffers when the steps are executed in ``order``."""
        return buffers([self.steps[i] for i in order], self.sizes, self.inputs, self.outputs)


@dataclass(frozen=True)
class PlannedBuffer:
    """Tensors that share memory, when it is taken, and where it lies.

    ``first`` and ``last`` are positions in the plan's order, both included; sizes in bytes.
    """

    tensors: tuple[str, ...]
    nbytes: int
    first: int
    last: int
    offset: int


@dataclass(frozen=True)
class MemoryPlan:
    """Activation memory of one inference: one arena, planned before the first step.

    Weights, code, the runtime's own state and kernels' scratch memory are not in it.

    Args:
        steps: kernels in the planned order.
        order: for each of them, its position in the order of the file.
        buffers: what lies where.
        peak_bytes: size of the arena.
        lower_bound: the most bytes that are alive at once in this order: no placement is smaller.
        given_bytes: the same for the order of the file.
        step_bytes: what the hungriest step needs by itself: no order is below.
        pressure: bytes alive at every step.
        best_order: whether it is known that no order has less alive at once.
        sharing: what the runtime is assumed to be able to reuse.
        in_time: False where the clock stopped the search, so that a second run may differ.
    """

    steps: tuple[str, ...]
    order: tuple[int, ...]
    buffers: tuple[PlannedBuffer, ...]
    peak_bytes: int
    lower_bound: int
    given_bytes: int
    step_bytes: int
    pressure: tuple[int, ...]
    best_order: bool
    sharing: Sharing
    in_time: bool = True

    @property
    def gap(self) -> float:
        """How far the arena is above the bound of its order; 0: the offsets are optimal."""
        return self.peak_bytes / self.lower_bound - 1 if self.lower_bound else 0.0

    @property
    def is_optimal(self) -> bool:
        """Whether it is known that neither another order nor other offsets need less."""
        return self.gap == 0 and self.best_order

    @property
    def reordered(self) -> bool:
        """Whether the order differs from the file's."""
        return self.order != tuple(range(len(self.order)))

    @property
    def offsets(self) -> dict[str, int]:
        """Offset of every tensor in the arena, bytes."""
        return {name: one.offset for one in self.buffers for name in one.tensors}

    @property
    def in_place(self) -> tuple[tuple[str, ...], ...]:
        """Tensors that lie in the same memory one after the other."""
        return tuple(one.tensors for one in self.buffers if len(one.tensors) > 1)

    @property
    def peak_step(self) -> int:
        """Position of the first step at which the most bytes are alive."""
        return max(range(len(self.pressure)), key=self.pressure.__getitem__, default=0)

    @property
    def peak_at(self) -> str:
        """The first step at which the most bytes are alive."""
        return self.steps[self.peak_step] if self.steps else ""

    def alive_at(self, step: int) -> tuple[PlannedBuffer, ...]:
        """Return the buffers that are alive at a step, the largest first."""
        alive = [one for one in self.buffers if one.first <= step <= one.last]
        return tuple(sorted(alive, key=lambda one: (-one.nbytes, one.offset)))

    def crowded(self, nbytes: int) -> tuple[int, ...]:
        """Return the steps at which more than ``nbytes`` are alive, the worst first."""
        over = [i for i, live in enumerate(self.pressure) if live > nbytes]
        return tuple(sorted(over, key=lambda i: (-self.pressure[i], i)))


def plan_memory(
    graph: Graph,
    target: Target,
    *,
    dims: Mapping[str, int] | None = None,
    reorder: bool = True,
    sharing: Sharing | None = None,
    alignment: int = 1,
    seconds: float = 1.0,
) -> MemoryPlan:
    """Return where every activation of ``graph`` lies when ``target`` executes it.

    Args:
        graph: any graph; open sizes are bound as for an estimate.
        target: decides the kernels, and what may share memory.
        dims: sizes of symbolic dimensions.
        reorder: whether the operators' order may change.
        sharing: what may share memory, when not what the target's runtime is assumed to do.
        alignment: offsets are multiples of this, and sizes are rounded up to it.
        seconds: guard on the search for offsets; see ``place``.
    """
    known, _ = sized(graph, dims or {})
    kernels = group_kernels(known, target)
    chosen = sharing or sharing_of(target)
    sizes = tensor_sizes(known, kernels)
    execution = Execution(
        steps=steps_of(kernels, chosen),
        sizes={name: -(-size // alignment) * alignment for name, size in sizes.items()},
        inputs=tuple(v.name for v in known.feeds),
        outputs=tuple(v.name for v in known.outputs if v.name in sizes),
    )
    return plan_execution(execution, reorder=reorder, sharing=chosen, seconds=seconds)


def plan_execution(
    execution: Execution,
    *,
    reorder: bool = True,
    sharing: Sharing = "equal",
    seconds: float = 1.0,
    effort: int = EFFORT,
) -> MemoryPlan:
    """Return the plan of steps that are known already; ``sharing`` only labels it."""
    given = tuple(range(len(execution.steps)))
    kept = _placed(execution, given, seconds, effort)
    best, order, exact = kept, given, False
    if reorder:
        found = _better_order(execution, kept.bound)
        exact = found.exact
        if found.order is not None:
            moved = _placed(execution, found.order, seconds, effort)
            if moved.height < kept.height:
                best, order = moved, found.order
            else:
                exact = False
    return _plan(execution, order, best, (kept.bound, exact), sharing)


def _better_order(execution: Execution, now: int) -> Ordering:
    """Return an order with less than ``now`` alive at once, by the same count as the plan's."""
    tensors = (execution.sizes, execution.inputs, execution.outputs)
    if now <= step_bound(execution.steps, *tensors):
        return Ordering(None, now, exact=True)
    found = find_order(execution.steps, *tensors, below=now)
    if found.order is None or _most_alive(execution, found.order) < now:
        return found
    return Ordering(None, now, exact=False)


def _most_alive(execution: Execution, order: tuple[int, ...]) -> int:
    return peak(execution.buffers(order), [execution.steps[i] for i in order])[0]


def _placed(execution: Execution, order: tuple[int, ...], seconds: float, effort: int) -> Placement:
    alive = execution.buffers(order)
    intervals = [Interval(b.first, b.last + 1, b.nbytes) for b in alive]
    return place(intervals, seconds=seconds, effort=effort)


def _plan(
    execution: Execution,
    order: tuple[int, ...],
    placement: Placement,
    given: tuple[int, bool],
    sharing: Sharing,
) -> MemoryPlan:
    alive = execution.buffers(order)
    planned = tuple(
        PlannedBuffer(b.tensors, b.nbytes, b.first, b.last, offset)
        for b, offset in zip(alive, placement.offsets, strict=True)
    )
    tensors = (execution.sizes, execution.inputs, execution.outputs)
    return MemoryPlan(
        steps=tuple(execution.steps[i].name for i in order),
        order=order,
        buffers=planned,
        peak_bytes=placement.height,
        lower_bound=placement.bound,
        given_bytes=given[0],
        step_bytes=step_bound(execution.steps, *tensors),
        pressure=_pressure(alive, len(order)),
        best_order=given[1],
        sharing=sharing,
        in_time=placement.in_time,
    )


def _pressure(alive: Sequence[Buffer], count: int) -> tuple[int, ...]:
    live = [0] * count
    for one in alive:
        for step in range(one.first, min(one.last + 1, count)):
            live[step] += one.nbytes
    return tuple(live)
