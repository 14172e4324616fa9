"""How far two graphs' outputs are apart on some samples, streamed."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from graphopt.analysis.divergence import OutputKind, divergence, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = npt.NDArray[Any]

Key = TypeVar("Key")

SCORES = frozenset({OutputKind.LOGITS, OutputKind.PROBABILITIES})
"""Outputs that say what a model is for, where there are any."""
_JUDGED = 8
"""Samples that the kind of an output is told by."""


def output_divergence(
    original: Graph, changed: Graph, context: Context, samples: Callable[[int], bool]
) -> float | None:
    """Return the mean divergence per sample, summed over outputs; None without data.

    Where some outputs are scores of classes the others do not count: they are features and states.
    """
    names = [value.name for value in original.outputs]
    pairs = zip(
        _outputs(original, names, context, samples),
        _outputs(changed, names, context, samples),
        strict=True,
    )
    first: list[tuple[dict[str, Array], dict[str, Array]]] = []
    kinds: dict[str, OutputKind] = {}
    found: list[float] = []
    for pair in pairs:
        if not kinds:
            first.append(pair)
            if len(first) < _JUDGED:
                continue
            kinds = _kinds(names, [expected for expected, _ in first])
            found += [_apart(*one, kinds) for one in first]
        else:
            found.append(_apart(*pair, kinds))
    if not kinds and first:
        kinds = _kinds(names, [expected for expected, _ in first])
        found = [_apart(*one, kinds) for one in first]
    return float(np.mean(found)) if found else None


def counted_outputs(kinds: dict[Key, OutputKind]) -> dict[Key, OutputKind]:
    """Return the outputs that count: scores of classes, or all where there are none."""
    scores = {name: kind for name, kind in kinds.items() if kind in SCORES}
    return scores or kinds


def _kinds(names: list[str], samples: list[dict[str, Array]]) -> dict[str, OutputKind]:
    return counted_outputs({name: kind_of([s[name] for s in samples]) for name in names})


def _apart(
    expected: dict[str, Array], found: dict[str, Array], kinds: dict[str, OutputKind]
) -> float:
    return sum(divergence(expected[name], found[name], kind) for name, kind in kinds.items())


def _outputs(
    graph: Graph, names: list[str], context: Context, samples: Callable[[int], bool]
) -> Iterator[dict[str, Array]]:
    stream = context.stream(graph, names, samples=samples)
    for _, group in groupby(stream, key=itemgetter(0)):
        yield {name: values for _, name, values in group}
