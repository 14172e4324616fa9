"""Helpers for testing passes and plugins: graphs from text, a context, comparison, the CLI."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.calibration.base import RangeStatistics
from graphopt.calibration.observers import MinMax
from graphopt.calibration.sources import open_dataset
from graphopt.cost import Roofline
from graphopt.errors import TargetError
from graphopt.pipeline import PipelineContext
from graphopt.runtime import Session, open_session
from graphopt.targets import builtin_targets, host_target
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph, Value
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]


# -- graphs --------------------------------------------------------------------------------


def graph(text: str, *, opset: int = 17, **constants: Any) -> Graph:
    """Return the graph that ONNX text describes, checked.

    Args:
        text: a model in ONNX's text syntax. Where it has no ``<ir_version: …>`` header, IR version
            8 and ``opset`` are meant. A constant that is declared with a type and without a value
            (``<float[8, 3, 3, 3] weight>``) holds ``values_of`` its name.
        opset: version of the default operator set, for text without a header.
        **constants: arrays for declared constants, by name.

    Raises:
        ModelError: G202, not ONNX text; G205, not a legal graph.
    """
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'
    made = ir.parse(text)
    for info in made.value_infos:
        value = made.find(info.name)
        if value is None or value.producer or value.is_input or value.is_initializer:
            continue
        kind = info.type.tensor_type
        array = constants.get(info.name)
        if array is None:
            array = values_of(info.name, [d.dim_value for d in kind.shape.dim])
        made.set_tensor(value, ir.Tensor.from_array(array, DType(kind.elem_type)))
    ir.verify(made)
    return made


def values_of(name: str, shape: Sequence[int]) -> Array:
    """Return float32 values in [-2, 2) that depend on ``name`` alone, on every machine.

    They are multiples of 1/64, so that sums and products of a few are exact.
    """
    count = math.prod(shape)
    raw = np.frombuffer(hashlib.shake_256(name.encode()).digest(count), dtype=np.int8)
    return (raw.astype(np.float32) / 64.0).reshape(shape)


def random_feeds(model: Graph, *, count: int = 1, seed: int = 0, size: int = 2) -> list[Feed]:
    """Return ``count`` feeds: standard normal floats, small integers, booleans.

    Args:
        model: its inputs are fed.
        count: number of feeds.
        seed: of the generator.
        size: of every dimension that is not a number.
    """
    random = np.random.default_rng(seed)
    return [{v.name: _random(v, random, size) for v in model.feeds} for _ in range(count)]


def _random(value: Value, random: np.random.Generator, size: int) -> Array:
    shape = [d if isinstance(d, int) else size for d in value.shape or ()]
    dtype = np.dtype((value.dtype or DType.FLOAT).numpy_name)
    if dtype.kind in "biu":
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


# -- comparison ----------------------------------------------------------------------------


def run(model: Graph, feed: Feed, *, optimize: bool = True) -> list[Any]:
    """Execute a graph in onnxruntime on one feed and return its outputs."""
    return open_session(model, optimize=optimize).run(feed)


def assert_same_outputs(
    a: Graph | Session, b: Graph | Session, feeds: Iterable[Feed], *, rtol: float, atol: float
) -> None:
    """Fail unless both models return the same outputs on every feed.

    The tolerance is that of ``numpy.testing.assert_allclose``, |a - b| <= atol + rtol * |a|, and
    has no default: a test says what it promises.

    Args:
        a: the reference; a graph or an open session.
        b: what is compared with it.
        feeds: arrays by input name.
        rtol: relative part of the tolerance.
        atol: absolute part, in the unit of the outputs.

    Raises:
        AssertionError: the outputs differ in name, number, shape, type or value.
        ValueError: there were no feeds, so nothing was compared.
    """
    first, second = _opened(a), _opened(b)
    assert first.outputs == second.outputs, f"outputs {first.outputs} and {second.outputs}"
    compared = 0
    for feed in feeds:
        wanted, found = first.run(feed), second.run(feed)
        for name, one, other in zip(first.outputs, wanted, found, strict=True):
            assert one.dtype == other.dtype, f"`{name}` is {one.dtype} and {other.dtype}"
            np.testing.assert_allclose(
                other, one, rtol=rtol, atol=atol, strict=True, err_msg=f"output `{name}`"
            )
        compared += 1
    if not compared:
        raise ValueError("no feeds: nothing was compared")


def _opened(model: Graph | Session) -> Session:
    return model if isinstance(model, Session) else open_session(model)


# -- running a pass ------------------------------------------------------------------------


@dataclass
class Recorder(PipelineContext):
    """A context for one pass on its own; see ``context``."""

    given: Mapping[str, tuple[float, float]] | None = None

    @property
    def has_data(self) -> bool:
        """Whether there are ranges, or data to take them from."""
        return self.given is not None or self.dataset is not None

    @property
    def reasons(self) -> dict[str, str]:
        """What the pass explained, by node."""
        return {e.node: e.reason for e in self.explanations.values()}

    def ranges(self, graph: Graph, names: Sequence[str]) -> Mapping[str, RangeStatistics]:
        """Return the given ranges of the named tensors; without any, those of the data."""
        if self.given is None:
            return super().ranges(graph, names)
        return {
            name: RangeStatistics(*self.given[name], samples=1, observer="given")
            for name in names
            if name in self.given
        }


def context(
    *,
    target: str | Target = "x86-avx512-vnni",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    data: Source | None = None,
    model: Graph | None = None,
    original: Graph | None = None,
    seed: int = 0,
) -> Recorder:
    """Return what a pass is given, for a test that runs one pass on its own.

    Args:
        target: a built-in target by name or alias, or a target.
        ranges: (low, high) by tensor name, where the test wants them exact.
        data: samples to take the ranges from (minimum and maximum); needs ``model``.
        model: says what the inputs are called that ``data`` is for.
        original: what the pass is told was given; ``model`` when None.
        seed: of every random choice.

    Raises:
        TargetError: G501, unknown target.
        ValueError: ``data`` without ``model``.
    """
    dataset = None
    if data is not None:
        if model is None:
            raise ValueError("`data` needs `model`, whose inputs it is for")
        from graphopt.api.source import input_specs

        dataset = open_dataset(data, input_specs(model))
    return Recorder(
        target=named_target(target) if isinstance(target, str) else target,
        cost=Roofline(),
        dataset=dataset,
        find_observer=MinMax,
        seed=seed,
        find_rules=lambda: {rule.name: rule for rule in BUILTIN_RULES},
        source=original if original is not None else model,
        given=ranges,
    )


def named_target(name: str) -> Target:
    """Return a built-in target by name or alias, or this machine as ``host``."""
    if name == "host":
        return host_target()
    for target in builtin_targets():
        if name in {target.name, *target.aliases}:
            return target
    raise TargetError(f"unknown target `{name}`", code="G501")


# -- the command line ----------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a command did: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)


def run_cli(*args: object) -> Outcome:
    """Run ``graphopt`` with these arguments inside this process."""
    from graphopt.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in args])
    return Outcome(code, out.getvalue(), err.getvalue())
