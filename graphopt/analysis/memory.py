"""Liveness of buffers over an execution order, and the most that is alive at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Step:
    """One kernel in execution order.

    Args:
        name: what to call it in a report.
        reads: activations that it reads (no weights).
        writes: activations that it writes.
        views: (written, read) pairs that are the same memory, such as a Reshape's.
        in_place: (written, read) pairs that may share memory when nobody needs the read one later.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    views: tuple[tuple[str, str], ...] = ()
    in_place: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Buffer:
    """Memory that is alive from step ``first`` to step ``last``, both included."""

    tensors: tuple[str, ...]
    nbytes: int
    first: int
    last: int


def buffers(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> tuple[Buffer, ...]:
    """Return the buffers of an execution, those that share memory joined.

    An input is alive from the start until its last use and is never overwritten, because it is the
    caller's; an output is alive until the end.

    Args:
        steps: kernels in execution order.
        sizes: bytes of every tensor that a step reads or writes.
        inputs: tensors that the caller feeds.
        outputs: tensors that the caller gets.
    """
    fed = list(dict.fromkeys(inputs))
    last = _last_uses(steps, fed, outputs)
    owner: dict[str, str] = {name: name for name in fed}
    first: dict[str, int] = dict.fromkeys(fed, 0)
    end = {name: last[name] for name in fed}
    held = set(fed)
    for index, step in enumerate(steps):
        shared = _shared(step, index, last, owner, end, sizes, held)
        for name in step.writes:
            root = owner[shared[name]] if name in shared else name
            owner[name] = root
            first.setdefault(root, index)
            end[root] = max(end.get(root, index), last.get(name, index))
    return _collect(owner, sizes, first, end, final=max(len(steps) - 1, 0))


def peak(alive: Sequence[Buffer], steps: Sequence[Step]) -> tuple[int, int]:
    """Return the most bytes that are alive in one step, and the first step where they are.

    peak = max over steps t of the sum of nbytes with first <= t <= last. (0, 0) without buffers.
    """
    change = [0] * (len(steps) + 2)
    for buffer in alive:
        change[buffer.first] += buffer.nbytes
        change[buffer.last + 1] -= buffer.nbytes
    best, where, now = 0, 0, 0
    for index in range(len(steps)):
        now += change[index]
        if now > best:
            best, where = now, index
    return best, where


def _last_uses(
    steps: Sequence[Step], inputs: Sequence[str], outputs: Iterable[str]
) -> dict[str, int]:
    last = dict.fromkeys(inputs, 0)
    for index, step in enumerate(steps):
        for name in (*step.writes, *step.reads):
            last[name] = index
    for name in outputs:
        last[name] = len(steps)  # beyond the last step, so that nothing may overwrite it
    return last


def _shared(
    step: Step,
    index: int,
    last: Mapping[str, int],
    owner: Mapping[str, str],
    end: Mapping[str, int],
    sizes: Mapping[str, int],
    held: set[str],
) -> dict[str, str]:
    """Return, for each written tensor that shares memory, the read tensor it shares with."""
    shared = {written: read for written, read in step.views if read in owner}
    taken = {owner[read] for read in shared.values()}
    for written, read in step.in_place:
        root = owner.get(read)
        if root is None or written in shared or root in taken or root in held:
            continue
        dies_here = end[root] <= index and last[read] <= index
        if dies_here and sizes[written] <= sizes[root]:
            shared[written] = read
            taken.add(root)
    return shared


def _collect(
    owner: Mapping[str, str],
    sizes: Mapping[str, int],
    first: Mapping[str, int],
    end: Mapping[str, int],
    *,
    final: int,
) -> tuple[Buffer, ...]:
    members: dict[str, list[str]] = {}
    for name, root in owner.items():
        members.setdefault(root, []).append(name)
    return tuple(
        Buffer(tuple(names), max(sizes[n] for n in names), first[root], min(end[root], final))
        for root, names in members.items()
    )
