"""Prune one model at random and ask the oracle: what goes, what stays and why, what is wrong.

The oracle: the original, with what was removed set to zero wherever it is summed over, computes
what the smaller model computes. Where a coupling is inexact, because a norm takes its statistics
over what is left, the original is made to do so too (pruning_reference.py). Where that is not known
either, the smaller model has to load, run, and make outputs of the same shapes.

Compared are the outputs, and also what enters the operators that would hide a difference or blow
it up: a closing Softmax, and selections by score (TopK, NonMaxSuppression, ArgMax).
"""

from __future__ import annotations

import re
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling import Axis, Cut, couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.passes.builtin import graphopt_register_passes
from graphopt.passes.prune.removal.oracle import TOLERANCE, disagreement, silence_units
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.runtime import open_session
from graphopt.testing import context
from pruning_reference import take_statistics_of_the_rest
from pruning_shares import channel_share, frozen_reasons, parameters, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from graphopt.analysis.coupling import Coupling, Group
    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

RATIOS = (0.1, 0.3, 0.5)
RULES = {rule.name: rule for rule in BUILTIN_RULES}
PREPARATION = (
    *("fix-initializers", "upgrade-opset", "fold-shapes", "fold-constants"),
    *("eliminate-identity", "eliminate-dead"),
)
"""Passes that the recipes begin with, so that pruning never sees a model without them."""
REVEALED = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "TopK", "NonMaxSuppression", "ArgMax"})
"""Operators whose inputs are compared too."""
SELECTING = frozenset({"TopK", "NonMaxSuppression", "ArgMax", "ArgMin", "NonZero"})
"""Operators whose result depends on the order of scores."""
DYNAMIC_SIZE = 4
"""Size of every dimension of an input that is not a number, the first excepted, which is 1."""
COARSE = 4
"""Side of the pattern that an image repeats in large patches."""
SAMPLES = 6
"""Inputs that are tried where two ways of running one and the same model disagree too much to see
anything at the tolerance. Which input counts is decided by that alone, not by the pruned model."""


@dataclass(frozen=True)
class Trial:
    """One ratio.

    Args:
        ratio: share of the units of every group that was to go.
        removed: share of the parameters that went, exact groups only.
        effect: how far removing the exact groups takes the outputs from those of the whole model,
            measured like the disagreement; where it is nothing, the oracle has nothing to see.
        disagreement: largest difference as a share of the largest value; None when nothing ran.
        swapped: whether it was compared in order of size where something was selected by score,
            because scores that are almost the same had changed places.
        rounding: the same between two ways of running the silenced original, where the difference
            comes near the tolerance.
        samples: how many inputs were tried; all but the last had a rounding above half the
            tolerance.
        removed_all: share of the parameters that went with the inexact groups.
        disagreement_all: the largest difference with the inexact groups; None where only shapes
            could be compared.
        error: what went wrong with the exact groups; empty when they pass.
        error_all: what went wrong with all groups; empty when the model runs as it should.
    """

    ratio: float
    removed: float = 0.0
    effect: float | None = None
    disagreement: float | None = None
    swapped: bool = False
    rounding: float | None = None
    samples: int = 1
    removed_all: float = 0.0
    disagreement_all: float | None = None
    error: str = ""
    error_all: str = ""

    @property
    def is_rounding(self) -> bool:
        """Whether the exact groups differ by no more than twice what the order of sums does."""
        if self.disagreement is None or self.rounding is None:
            return False
        return self.disagreement <= max(2 * self.rounding, TOLERANCE)


@dataclass(frozen=True)
class Score:
    """What became of one model.

    Args:
        nodes: operators.
        parameters: elements of floating constants of at least two elements.
        groups: how many; those that are exact.
        channels: share of the output channels of Conv, ConvTranspose, Gemm and MatMul weights that
            belong to some unit; those of exact groups.
        reach: share of the parameters that go when every unit goes; with exact groups only.
        frozen: reasons why channels stay, with the share of all channels, the largest first; what
            is quoted in a reason is left out.
        trials: one per ratio.
        seconds: load and couple; everything.
    """

    nodes: int
    parameters: int
    groups: tuple[int, int]
    channels: tuple[float, float]
    reach: tuple[float, float]
    frozen: tuple[tuple[str, float, str], ...]
    trials: tuple[Trial, ...]
    seconds: tuple[float, float]

    @property
    def passes(self) -> bool:
        """Whether the oracle passes at every ratio, and every pruned model runs."""
        return bool(self.trials) and all(not t.error and not t.error_all for t in self.trials)

    @property
    def passes_but_for_rounding(self) -> bool:
        """Whether all that fails is beyond the tolerance because this model magnifies rounding."""
        faults = [t for t in self.trials if t.error or t.error_all]
        return bool(faults) and all(t.is_rounding and not t.error_all for t in faults)


def judge(read: Callable[[], Graph], name: str, ratios: Iterable[float] = RATIOS) -> Score:
    """Prune a model at each ratio and compare.

    Args:
        read: returns the model.
        name: seeds the choice and the inputs.
        ratios: shares of the units to remove.
    """
    began = time.perf_counter()
    graph = prepared(read())
    coupling = couple(graph, RULES)
    coupled = time.perf_counter()
    exact = [group for group in coupling.groups if group.is_exact]
    trial = _Bench(graph, coupling, name)
    return Score(
        nodes=len(graph.nodes()),
        parameters=parameters(graph),
        groups=(len(coupling.groups), len(exact)),
        channels=(channel_share(graph, coupling.groups), channel_share(graph, exact)),
        reach=(reach(graph, coupling.groups), reach(graph, exact)),
        frozen=frozen_reasons(graph, coupling),
        trials=tuple(trial.run(ratio) for ratio in ratios),
        seconds=(round(coupled - began, 2), round(time.perf_counter() - began, 2)),
    )


def prepared(graph: Graph) -> Graph:
    """Return a model as the recipes give it to pruning, with shapes."""
    passes = {p.name: p for p in graphopt_register_passes()}
    for name in PREPARATION:
        passes[name]().run(graph, context())
    ir.infer_shapes(graph)
    return graph


def to_json(score: Score) -> dict[str, Any]:
    """Return the score as JSON has it, shares rounded to four places."""
    record = asdict(score)
    for key in ("channels", "reach"):
        record[key] = [round(share, 4) for share in record[key]]
    for trial in record["trials"]:
        for key in ("removed", "removed_all"):
            trial[key] = round(trial[key], 4)
        for key in ("effect", "disagreement", "rounding", "disagreement_all"):
            if trial[key] is not None:
                trial[key] = float(f"{trial[key]:.2e}")
    verdicts = {"passes": score.passes, "rounding_only": score.passes_but_for_rounding}
    return record | verdicts


# -- one trial -----------------------------------------------------------------------------


class _Bench:
    """One model, and what it computes before anything goes."""

    def __init__(self, graph: Graph, coupling: Coupling, name: str) -> None:
        self.graph = graph
        self.coupling = coupling
        self.name = name
        self.feed = self.sample(0)
        self.total = max(parameters(graph), 1)
        self.whole = open_session(graph, optimize=False).run(self.feed)

    def sample(self, number: int) -> Feed:
        """Return one input of this model."""
        seed = zlib.crc32(self.name.encode())
        return random_feed(self.graph, np.random.default_rng([seed, number] if number else seed))

    def run(self, ratio: float) -> Trial:
        """Prune the exact groups and compare; then all groups, and see whether it runs."""
        seed = zlib.crc32(f"{self.name} {ratio}".encode())
        keeps = {g.name: draw(g, ratio, seed) for g in self.coupling.groups}
        exact = {g.name: keeps[g.name] for g in self.coupling.groups if g.is_exact}
        found: dict[str, Any] = {}
        try:
            found |= self._strict(exact)
        except Exception as error:
            found["error"] = _said(error)
        if len(exact) == len(keeps):
            return Trial(ratio, **found, removed_all=found.get("removed", 0.0))
        try:
            found |= self._loose(keeps)
        except Exception as error:
            found["error_all"] = _said(error)
        return Trial(ratio, **found)

    def _strict(self, keeps: Mapping[str, Array]) -> dict[str, Any]:
        original, smaller = _pair(self.graph, self.coupling, keeps)
        sessions = [open_session(made, optimize=False) for made in (original, smaller)]
        expected, outputs = (session.run(self.feed) for session in sessions)
        effect = disagreement(self.whole, expected[: len(self.whole)])
        found: dict[str, Any] = {"removed": 1 - parameters(smaller) / self.total, "effect": effect}
        for number in range(SAMPLES):
            feed = self.feed
            if number:
                feed = self.sample(number)
                expected, outputs = (session.run(feed) for session in sessions)
            apart, swapped = compare(expected, outputs, behind_selection(original))
            found |= {"disagreement": apart, "swapped": swapped, "samples": number + 1}
            found["rounding"] = None
            if apart > TOLERANCE / 10:
                found["rounding"] = disagreement(expected, open_session(original).run(feed))
            if apart <= TOLERANCE or found["rounding"] <= TOLERANCE / 2:
                break
        if apart > TOLERANCE:
            found["error"] = f"outputs differ by {apart:.1e}"
        return found

    def _loose(self, keeps: Mapping[str, Array]) -> dict[str, Any]:
        original, smaller = _pair(self.graph, self.coupling, keeps)
        unknown = take_statistics_of_the_rest(self.graph, original, self.coupling.cut(keeps))
        expected = open_session(original, optimize=False).run(self.feed)
        outputs = open_session(smaller, optimize=False).run(self.feed)
        found: dict[str, Any] = {"removed_all": 1 - parameters(smaller) / self.total}
        if unknown:
            return found | {"error_all": _shapes_fault(original, expected, outputs)}
        apart, _ = compare(expected, outputs, behind_selection(original))
        found["disagreement_all"] = apart
        if apart > TOLERANCE:
            found["error_all"] = f"outputs differ by {apart:.1e}"
        return found


def _said(error: Exception) -> str:
    cause = error.__cause__ or error
    text = f"{type(cause).__name__}: {cause}".strip().replace("\n", " ")
    return re.sub(r"/\S*/", "", text)[:400]


def draw(group: Group, ratio: float, seed: int) -> Array:
    """Return what is kept of a group: every cell loses the same number, and keeps at least one.

    At least one of each cell goes where it has more than one, so that small groups are tried too.
    """
    random = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    sizes = np.bincount(group.cells)
    smallest = int(sizes.min())
    count = min(max(round(ratio * smallest), 1), smallest - 1)
    keep = np.ones(group.size, dtype=bool)
    for cell in range(len(sizes)):
        keep[random.permutation(np.flatnonzero(group.cells == cell))[:count]] = False
    return keep


def _pair(graph: Graph, coupling: Coupling, keeps: Mapping[str, Array]) -> tuple[Graph, Graph]:
    """Return the silenced original and the smaller model, with the same values to compare."""
    cut = coupling.cut(keeps)
    original = silence_units(graph, coupling, cut)
    smaller = graph.copy()
    moved = {axis: cut.keep(*axis) for axis in cut.axes}
    kept = {_same(axis, smaller): keep for axis, keep in moved.items() if keep is not None}
    remove_units(smaller, Cut(kept), RULES)
    ir.verify(smaller)
    for name in revealed(graph, cut):
        for made in (original, smaller):
            made.set_outputs([*made.outputs, made.value(name)])
    return original, smaller


def _same(axis: Axis, graph: Graph) -> Axis:
    return Axis(graph.value(axis.value.name), axis.position)


def revealed(graph: Graph, cut: Cut) -> list[str]:
    """Return what is compared besides the outputs: what REVEALED operators read, uncut."""
    names = []
    for node in graph.nodes():
        value = node.inputs[0] if node.op in REVEALED else None
        is_float = value is not None and value.dtype is not None and value.dtype.name == "FLOAT"
        if value is None or not is_float or cut.touches(value) or value.producer is None:
            continue
        if not value.is_output and value.name not in names:
            names.append(value.name)
    return names


def compare(expected: list[Array], found: list[Array], selected: list[bool]) -> tuple[float, bool]:
    """Return the disagreement, and whether what is selected by score had to be put in order.

    Two boxes with the same score to seven digits come out in either order.
    """
    apart = disagreement(expected, found)
    if apart <= TOLERANCE or not any(selected):
        return apart, False
    one = [_in_order(array, put) for array, put in zip(expected, selected, strict=True)]
    other = [_in_order(array, put) for array, put in zip(found, selected, strict=True)]
    ordered = disagreement(one, other)
    return (ordered, True) if ordered <= TOLERANCE else (apart, False)


def _in_order(array: Array, selected: bool) -> Array:
    return np.sort(array, axis=0) if selected and array.ndim else array


def behind_selection(graph: Graph) -> list[bool]:
    """Return for each output whether it depends on what a SELECTING operator chose."""
    touched: set[Value] = set()
    graph.sort()
    for node in graph.nodes():
        if node.op in SELECTING or touched.intersection(v for v in node.inputs if v is not None):
            touched.update(node.outputs)
    return [value in touched for value in graph.outputs]


def _shapes_fault(original: Graph, expected: list[Array], found: list[Array]) -> str:
    for value, one, other in zip(original.outputs, expected, found, strict=True):
        # How many boxes are found may well differ; what is said of each may not.
        if one.ndim != other.ndim or (_is_fixed(value) and one.shape != other.shape):
            return f"`{value.name}` is {other.shape} instead of {one.shape}"
        if one.dtype.kind == "f" and np.isfinite(one).all() and not np.isfinite(other).all():
            return f"`{value.name}` is not finite"
    return ""


def _is_fixed(value: Value) -> bool:
    return value.shape is not None and all(isinstance(d, int) for d in value.shape)


# -- inputs --------------------------------------------------------------------------------


def random_feed(graph: Graph, random: np.random.Generator) -> dict[str, Array]:
    """Return one sample: normal floats, integers below the smallest table that they index."""
    return {value.name: _random(value, random) for value in graph.feeds}


def _random(value: Value, random: np.random.Generator) -> Array:
    shape = [
        size if isinstance(size, int) else (DYNAMIC_SIZE if position else 1)
        for position, size in enumerate(value.shape or ())
    ]
    dtype = np.dtype(value.dtype.numpy_name) if value.dtype is not None else np.dtype(np.float32)
    if dtype.kind == "b" or "mask" in value.name:
        return np.ones(shape, dtype=dtype)
    if dtype.kind in "iu":
        return random.integers(0, _rows(value), shape).astype(dtype)
    noise = random.standard_normal(shape)
    if len(shape) in {3, 4} and min(shape[-2:]) >= 2 * COARSE:
        # All white noise looks the same to a deep layer; what little differs is then blown up.
        coarse = random.standard_normal([*shape[:-2], COARSE, COARSE])
        rows, columns = (np.arange(size) * COARSE // size for size in shape[-2:])
        noise = coarse[..., rows, :][..., columns] + noise / 4
    return noise.astype(dtype)


def _rows(value: Value) -> int:
    rows = [
        table.shape[0]
        for node, position in value.uses
        if node.op == "Gather" and position == 1 and (table := node.inputs[0]) is not None
        if table.shape and isinstance(table.shape[0], int)
    ]
    return max(min(rows, default=2), 1)
