"""Random legal models of many steps, the inputs they are run on, and what is asked of a pass."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx import helper as h

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.runtime import newest_supported_opset, open_session
from graphopt.testing import context
from tests.backend.exact import assert_equal_outputs
from tests.fuzzing.builder import OPEN, Builder
from tests.fuzzing.chains import CHAINS
from tests.fuzzing.inner import branches, loop, scan
from tests.fuzzing.layers import LAYERS
from tests.fuzzing.opsets import WRITTEN
from tests.fuzzing.spellings import SPELLINGS, TIME
from tests.fuzzing.steps import STEPS
from tests.fuzzing.whole import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.base import Pass
    from tests.fuzzing.choices import Choices
    from tests.fuzzing.steps import Step

    Feed = dict[str, np.ndarray[Any, Any]]
    Outputs = list[list[Any]]

TOLERANCE = 2e-4
"""Of the largest value of each output: sums come in another order, divisions as products."""
NOISE_SHARE = 20.0
"""A difference is rounding where moving the inputs by a rounding makes one this much smaller."""
OLDEST = 7
_SIZES = {OPEN: (2, 3, 1), TIME: (5, 3, 1)}
_IR_VERSIONS = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 12, 26: 13}

_FLAT = (*STEPS, *LAYERS, *CHAINS, *SPELLINGS, *WHOLE)
FAMILIES: tuple[Sequence[Step], ...] = (
    STEPS,
    LAYERS,
    CHAINS,
    SPELLINGS,
    WHOLE,
    (branches(_FLAT), branches(_FLAT), loop(_FLAT), scan),
)


def model(choices: Choices) -> onnx.ModelProto:
    """Return a model of a few steps, all of whose values are outputs or lead to one.

    Few of them break a rule of an opset that steps do not know; whoever asks finds that out.
    """
    newest = newest_supported_opset()
    b = Builder(choices, choices.pick([WRITTEN, choices.number(OLDEST, newest)]))
    b.feed(b.pick([(OPEN, 3, 4), (OPEN, 2, 5, 6), (OPEN, 4), (2, 3, 4), (1, 4)]))
    for _ in range(b.number(2, 9)):
        b.attempt(b.pick(b.pick(FAMILIES)))
    if not b.nodes:
        b.keep(b.call("Identity", [b.items[0].name]), b.items[0].shape)
    graph = h.make_graph(b.nodes, "g", b.inputs, _outputs(b), b.constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", b.opset)])
    made.ir_version = _IR_VERSIONS.get(b.opset, 8)
    if b.opset < 9 and b.flag():
        made.ir_version = 3
        known = {i.name for i in made.graph.input}
        made.graph.input.extend(
            h.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in made.graph.initializer
            if t.name not in known
        )
    return made


def _outputs(b: Builder) -> list[onnx.ValueInfoProto]:
    """Return what nobody reads, and some of what somebody does."""
    made = {name for node in b.nodes for name in node.output}
    read = {name for node in b.nodes for name in _reads(node)}
    values = [i for i in [*b.items, *b.whole, *b.loose] if i.name in made]
    kept = [i for i in values if i.name not in read] or values[-1:]
    kept += [i for i in values if i not in kept and b.number(0, 7) == 0]
    if not kept:
        name = b.nodes[-1].output[0]
        return [onnx.ValueInfoProto(name=name)]
    return [
        h.make_tensor_value_info(i.name, i.dtype, [None] * i.rank)
        for i in {i.name: i for i in kept}.values()
    ]


def _reads(node: onnx.NodeProto) -> list[str]:
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names += [n for inner in attribute.g.node for n in _reads(inner)]
            names += [v.name for v in attribute.g.output]
    return names


def feeds_of(made: onnx.ModelProto) -> list[Feed]:
    """Return values at three sizes of the open dimensions: normal floats, small integers."""
    stored = {t.name for t in made.graph.initializer}
    infos = [i for i in made.graph.input if i.name not in stored]
    return [{i.name: _values(i, index) for i in infos} for index in range(3)]


def _values(info: onnx.ValueInfoProto, index: int) -> np.ndarray[Any, Any]:
    kind = info.type.tensor_type
    shape = [
        _SIZES[d.dim_param][index] if d.HasField("dim_param") else d.dim_value
        for d in kind.shape.dim
    ]
    random = np.random.default_rng([index, zlib.crc32(info.name.encode())])
    if kind.elem_type == TensorProto.FLOAT:
        return np.asarray(random.standard_normal(shape), np.float32)
    dtype = h.tensor_dtype_to_np_dtype(kind.elem_type)
    return np.asarray(random.integers(0, 2 if dtype == np.bool_ else 4, shape)).astype(dtype)


@dataclass(frozen=True)
class Case:
    """A model that the runtime runs as it stands, with what it returns.

    Args:
        graph: the model as graphopt reads it.
        feeds: inputs that it takes.
        wanted: its outputs, all finite.
    """

    graph: ir.Graph
    feeds: list[Feed]
    wanted: Outputs


def case_of(made: onnx.ModelProto) -> Case | None:
    """Return the case of a model; None where it is not legal, not run, or not finite."""
    try:
        graph = ir.from_bytes(made.SerializeToString())
        ir.verify(graph)
        session = open_session(graph, optimize=False)
    except GraphOptError:
        return None
    feeds, wanted = [], []
    for feed in feeds_of(made):
        try:
            found = session.run(feed)
        except GraphOptError:
            continue
        if not all(np.isfinite(v).all() for v in found if v.dtype.kind == "f"):
            return None
        feeds.append(feed)
        wanted.append(found)
    return Case(graph, feeds, wanted) if feeds else None


def check(case: Case, steps: Sequence[Pass], who: str) -> list[str]:
    """Run passes over a copy of the model; return the names of those that changed it.

    Raises:
        AssertionError: a pass was not honest, or an output is not what it was.
        GraphOptError: a pass left an illegal graph, or one that does not run.
    """
    after = case.graph.copy()
    changed = []
    for step in steps:
        kept = ir.structural_hash(after)
        result = step.run(after, context())
        after.sort()
        differs = ir.structural_hash(after) != kept
        assert result.modified == differs, f"{who}: {step.name} is not honest"
        ir.verify(after)
        if differs:
            changed.append(step.name)
    if changed:
        session = open_session(after, optimize=False)
        for feed, wanted in zip(case.feeds, case.wanted, strict=True):
            _compare(case, feed, wanted, session.run(feed), who)
    return changed


def _compare(case: Case, feed: Feed, wanted: list[Any], found: list[Any], who: str) -> None:
    try:
        assert_equal_outputs(wanted, found, rtol=0.0, atol=TOLERANCE, scaled=True, who=who)
    except AssertionError:
        if not _is_rounding(case, feed, wanted, found):
            raise


def _is_rounding(case: Case, feed: Feed, wanted: list[Any], found: list[Any]) -> bool:
    """Whether the model itself differs as much where its inputs are moved by a rounding."""
    pairs = zip(wanted, found, strict=True)
    if any(a.dtype != b.dtype or a.shape != b.shape for a, b in pairs):
        return False
    session = open_session(case.graph, optimize=False)
    noise = [np.zeros(v.shape) for v in wanted]
    for seed in range(4):
        random = np.random.default_rng(seed)
        near = {k: _nudged(v, random) for k, v in feed.items()}
        for index, (a, b) in enumerate(zip(wanted, session.run(near), strict=True)):
            if a.shape != b.shape:
                return False
            noise[index] = np.maximum(noise[index], np.abs(_double(a) - _double(b)))
    for a, b, spread in zip(wanted, found, noise, strict=True):
        scale = TOLERANCE * max(float(np.abs(_double(a)).max(initial=0.0)), 1e-6)
        limit = max(scale, NOISE_SHARE * float(spread.max(initial=0.0)))
        if not (np.abs(_double(a) - _double(b)) <= limit).all():
            return False
    return True


def _nudged(values: np.ndarray[Any, Any], random: np.random.Generator) -> np.ndarray[Any, Any]:
    if values.dtype != np.float32:
        return values
    return np.asarray(values * (1 + 1e-7 * random.choice([-1, 1], values.shape)), np.float32)


def _double(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.float64)
