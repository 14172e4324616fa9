"""Candidates in integers: how they are made, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.api.setup import find_target, make_context, make_passes, open_samples, resolve_recipe
from graphopt.errors import PassError
from graphopt.pipeline import Verifier, probe_feeds
from graphopt.planner.pruning import settle_quantization
from graphopt.planner.pruning.integer_clock import IntegerClock, IntegerLedger
from graphopt.planner.pruning.orders import Meters, OrderBook
from graphopt.registry import Registry
from graphopt.report import OrderRecord
from graphopt.testing import graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner.pruning import Quantizer

NET = """
g (float[1,64,24,24] x) => (float[1,8,24,24] y) <float[{n},64,3,3] v, float[8,{n},3,3] w> {{
  h = Conv<pads=[1,1,1,1]>(x, v)
  r = Relu(h)
  y = Conv<pads=[1,1,1,1]>(r, w)
}}
"""


def net(width: int) -> Graph:
    random = np.random.default_rng(0)
    v = random.standard_normal((64, 64, 3, 3)).astype(np.float32)[:width]
    w = random.standard_normal((8, 64, 3, 3)).astype(np.float32)[:, :width]
    made = graph(NET.format(n=width), v=v, w=w)
    ir.infer_shapes(made)
    return made


def feeds() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((1, 64, 24, 24)).astype(np.float32)} for _ in range(6)]


def setting(*overrides: str, target: str = "host") -> tuple[PipelineContext, Sequence[Pass]]:
    registry = Registry(plugins=())
    stated = ["insert-qdq.placement=integer", "align-channels.mode=off", *overrides]
    recipe = resolve_recipe(target=target, overrides=stated, registry=registry).recipe
    samples = open_samples(feeds(), recipe, net(64), registry)
    assert samples is not None
    found = find_target(target, registry)
    context = make_context(recipe, found, registry, samples.calibration)
    steps = make_passes(recipe, registry)
    names = [step.name for step in steps]
    return context, steps[names.index("prune-channels") + 1 :]


def settled(*overrides: str, target: str = "host") -> tuple[PipelineContext, Quantizer | None]:
    context, steps = setting(*overrides, target=target)
    made = net(64)
    verifier = Verifier(made, context.target, probe_feeds(made, feeds()[:2], 0), [])
    registry = Registry(plugins=())
    limits = resolve_recipe(overrides=["limits.min-snr-db=1.0"], registry=registry).recipe.limits
    return context, settle_quantization(made, steps, context, verifier, limits, measure=False)


def test_candidates_are_quantized_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, quantize = settled()
    assert quantize is not None
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    given = net(32)
    before = ir.structural_hash(given)
    made = quantize(given)
    assert len(made.nodes("QuantizeLinear")) >= 2
    assert ir.structural_hash(given) == before
    assert not context.explanations
    assert not list(tmp_path.iterdir())


def test_what_the_recipe_leaves_in_float_has_no_quantizer() -> None:
    assert settled("insert-qdq.placement=float", "quantize-matmuls.mode=off")[1] is None


def test_a_narrower_part_saves_time_between_integers() -> None:
    context, quantize = settled()
    assert quantize is not None
    clock = IntegerClock(context.target, feeds()[0], quantize)
    whole = net(64)
    nodes = whole.nodes("Conv", "Relu")
    # An eighth of the multiply-accumulates is left.
    assert 0 < clock.saving(whole, net(8), nodes) < clock.total(whole)
    assert clock.ratio(net(8), whole, seconds=0.1) < 0.9


def test_an_estimate_is_of_the_quantized_form() -> None:
    context, quantize = settled(target="arm")
    assert quantize is not None
    size = IntegerLedger(context, "size", quantize)
    stored = 64 * 64 * 9 + 64 * 8 * 9
    assert stored < size.total(net(64)) < 2 * stored  # a byte each, scales and the graph
    meters = Meters.of(context, "size", feeds()[0], quantize, timed=False)
    assert list(meters.prices("auto")) == ["prune-first", "quantize-first"]
    assert meters.scale("quantize-first", net(64), 1.0) == 1.0
    assert 2.0 < meters.scale("prune-first", net(64), meters.final.total(net(64))) < 4.0


def test_the_book_of_orders() -> None:
    book = OrderBook()
    book.add("prune-first", 2.0, 0.3, kept=False)
    book.add("prune-first", 2.1, 0.2, kept=False)
    book.add("quantize-first", 2.0, 0.1, kept=True)
    unpruned = OrderRecord("", 3.0, 0.0, kept=False)
    rows = [(r.order, r.figure, r.divergence, r.kept) for r in book.records(unpruned)]
    assert rows == [
        ("", 3.0, 0.0, False),
        ("quantize-first", 2.0, 0.1, True),
        ("prune-first", 2.1, 0.2, False),
    ]
    assert book.records(None) == ()


def test_orders_that_fail_are_told_and_all_of_them_are_an_error() -> None:
    book = OrderBook()
    book.failed("prune-first", PassError("too little", code="G308"))
    with pytest.raises(PassError, match="too little"):
        book.demand([])
    book.add("quantize-first", 2.0, 0.1, kept=True)
    last = book.records(OrderRecord("", 3.0, 0.0, kept=False))[-1]
    assert (last.order, last.figure, last.why) == ("prune-first", None, "too little")
