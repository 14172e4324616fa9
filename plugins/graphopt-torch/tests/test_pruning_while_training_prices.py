"""Tables of kernels, and widths that keep to a budget by them and by the cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from graphopt_torch.pruning.bit_choice import eligible, store_in_four_bits
from graphopt_torch.pruning.choose_widths import choose_widths
from graphopt_torch.pruning.decisions import saved_bytes
from graphopt_torch.pruning.expected_figure import expected_figure, interpolated
from graphopt_torch.pruning.lagrangian import Multiplier
from graphopt_torch.pruning.prices import Prices
from graphopt_torch.pruning.schedule import cubic_share
from graphopt_torch.pruning.sites import kept_units, training_sites
from graphopt_torch.pruning.terms import Side, Term, Terms, fitted_term, full_widths, hats
from graphopt_torch.pruning.trial_widths import trial_widths

import graphopt
from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.errors import PassError, RecipeError
from graphopt.planner.pruning.clock import Ledger
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

METRICS = ("latency", "macs", "params", "size")


@pytest.fixture(scope="module")
def digits(request: pytest.FixtureRequest) -> Prices:
    models: Path = request.getfixturevalue("models")
    return prices_of(ir.load(models / "digits_resnet.onnx"))


def prices_of(model: Graph) -> Prices:
    ir.infer_shapes(model)
    made = context(target="x86-avx512-vnni", model=model)
    coupling = couple(model, made.coupling_rules)
    sites, _ = training_sites(model, coupling)
    return Prices(model, coupling, sites, made)


@pytest.mark.parametrize("metric", METRICS)
def test_tables_tell_what_the_cost_model_says(digits: Prices, metric: str) -> None:
    terms = digits.terms(metric)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    close = {"latency": 0.15, "macs": 1e-6, "params": 1e-6, "size": 2e-3}[metric]
    for _ in range(5):
        widths = {s.name: int(random.choice(s.widths)) for s in digits.sites}
        expected = digits.figure(metric, widths)  # type: ignore[arg-type]
        assert terms.value(widths) == pytest.approx(expected, rel=close)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.8, 0.5])
def test_chosen_widths_keep_to_the_budget(digits: Prices, metric: str, share: float) -> None:
    full = full_widths(digits.sites)
    random = np.random.default_rng(2)
    scores = {s.name: random.random(s.size) for s in digits.sites}
    limit = share * digits.figure(metric, full)  # type: ignore[arg-type]
    terms = digits.terms(metric)  # type: ignore[arg-type]
    widths = choose_widths(digits, metric, terms, scores, full, limit)  # type: ignore[arg-type]
    found = digits.figure(metric, widths)  # type: ignore[arg-type]
    assert found <= limit
    assert found > 0.7 * limit  # it does not take much more than was asked
    assert all(widths[s.name] in s.widths for s in digits.sites)


def test_what_is_worth_least_goes_first(digits: Prices) -> None:
    full = full_widths(digits.sites)
    scores = {s.name: np.ones(s.size) for s in digits.sites}
    cheap = digits.sites[2].name
    scores[cheap] = np.full(digits.sites[2].size, 1e-6)
    limit = 0.8 * digits.figure("macs", full)
    widths = choose_widths(digits, "macs", digits.terms("macs"), scores, full, limit)
    assert {name for name in full if widths[name] < full[name]} == {cheap}


def test_a_goal_out_of_reach_is_refused(digits: Prices) -> None:
    full = full_widths(digits.sites)
    scores = {s.name: np.ones(s.size) for s in digits.sites}
    with pytest.raises(PassError, match="cannot get below") as raised:
        choose_widths(digits, "macs", digits.terms("macs"), scores, full, 1.0)
    assert raised.value.code == "G308"


def test_memory_is_no_sum(digits: Prices) -> None:
    with pytest.raises(RecipeError, match="no sum"):
        digits.terms("ram")


def test_cells_lose_the_same_number() -> None:
    text = """g (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y)
    <float[16, 4, 1, 1] w1, float[16, 8, 1, 1] w2, float[4, 16, 1, 1] w3>
    {
        h = Conv(x, w1) r = Relu(h)
        g1 = Conv <group=2> (r, w2) q = Relu(g1)
        y = Conv(q, w3)
    }"""
    prices = prices_of(graph(text))
    site = next(s for s in prices.sites if s.group.step == 2)
    keep = kept_units(site, np.arange(site.size, dtype=float), site.size // 2)
    lost = np.bincount(site.group.cells, weights=~keep)
    assert lost.tolist() == [site.size / 4] * 2


def test_concats_sum_up_in_what_reads_them() -> None:
    text = """g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
    <float[32, 4, 1, 1] w1, float[16, 4, 1, 1] w2, float[4, 52, 1, 1] w3>
    {
        a = Conv(x, w1) r = Relu(a) b = Conv(x, w2) q = Relu(b)
        c = Concat <axis=1> (r, x, q)
        y = Conv(c, w3)
    }"""
    prices = prices_of(graph(text))
    terms = prices.terms("macs")
    for widths in ({"w1": 8, "w2": 16}, {"w1": 24, "w2": 8}):
        assert terms.value(widths) == pytest.approx(prices.figure("macs", widths), rel=1e-6)


def test_every_pair_of_widths_is_looked_at(digits: Prices) -> None:
    names = [s.name for s in digits.sites]
    trials = trial_widths(digits.sites, [frozenset(names)])
    for one in digits.sites:
        for other in digits.sites:
            if one.name < other.name:
                pairs = {(t[one.name], t[other.name]) for t in trials}
                assert len(pairs) == len(one.widths) * len(other.widths)
    assert len(trials) <= 49


def test_hats_are_shares() -> None:
    assert hats(12.0, (8.0, 16.0, 24.0)).tolist() == [0.5, 0.5, 0.0]
    assert hats(24.0, (8.0, 16.0, 24.0)).tolist() == [0.0, 0.0, 1.0]
    assert hats(4.0, (8.0, 16.0, 24.0)).tolist() == [1.0, 0.0, 0.0]


def test_a_table_holds_what_was_measured() -> None:
    sides = (Side(0.0, (("a", 1.0),)), Side(2.0, (("b", 2.0),)))
    points = [({"a": a, "b": b}, float(a * a + 3 * b)) for a in (4, 8, 16) for b in (2, 6)]
    term = fitted_term(sides, points)
    for widths, value in points:
        assert term.value(widths) == pytest.approx(value, rel=1e-5)


def test_tensors_are_interpolated_as_numbers_are() -> None:
    random = np.random.default_rng(0)
    sides = (Side(1.0, (("a", 1.0), ("b", 2.0))), Side(0.0, (("c", 1.0),)))
    term = Term(sides, ((0.0, 10.0, 30.0), (0.0, 8.0, 16.0)), random.random((3, 3)))
    for a, b, c in ((3.0, 4.0, 8.0), (10.0, 2.5, 11.0), (0.0, 0.0, 16.0)):
        widths = {"a": a, "b": b, "c": c}
        tensors = {n: torch.tensor(w, requires_grad=True) for n, w in widths.items()}
        found = interpolated(term, tensors)
        # float32
        assert float(found.detach()) == pytest.approx(term.value(widths), rel=1e-5)
        found.backward()  # type: ignore[no-untyped-call]
        gradient = tensors["b"].grad
        assert gradient is not None
        change = (term.value({**widths, "b": b + 0.01}) - term.value(widths)) / 0.01
        assert float(gradient) == pytest.approx(change, rel=1e-3, abs=1e-5)


def test_bits_leave_a_share_of_the_bytes() -> None:
    side = Side(0.0, (("a", 1.0),))
    table = np.array([0.0, 100.0])
    terms = Terms(7.0, tuple(Term((side,), ((0.0, 10.0),), table, owner=n) for n in ("w", "v")))
    widths = {"a": torch.tensor(5.0)}
    assert float(expected_figure(terms, widths, {})) == pytest.approx(107.0)
    shares = {"w": torch.tensor(0.5)}
    assert float(expected_figure(terms, widths, shares)) == pytest.approx(82.0)


def test_removals_follow_a_cube() -> None:
    shares = [cubic_share(step, 10) for step in range(11)]
    assert shares[0] == 0.0
    assert shares[10] == 1.0
    assert shares[5] == pytest.approx(0.875)
    assert all(np.diff(np.diff(shares)) < 0)


def test_a_price_rises_above_the_limit_and_falls_below() -> None:
    price = Multiplier(10.0, speed=0.5)
    assert float(price.penalty(torch.tensor(10.0))) == 0.0
    price.update(20.0)
    assert price.value == 0.5
    assert float(price.penalty(torch.tensor(20.0))) == pytest.approx(1.0)
    price.update(5.0)
    assert price.value == 0.25
    price.update(0.0)
    assert price.value == 0.0


def test_bits_of_weights_whose_sizes_stay_count_too(models: Path) -> None:
    compiled = graphopt.compile(
        models / "digits_resnet.onnx", data=models / "digits.npz", recipe="integer"
    )
    prices = prices_of(compiled.graph)
    terms = prices.terms("size")
    names = eligible(compiled.graph)
    assert names.keys() <= {term.owner for term in terms.terms}
    full = full_widths(prices.sites)
    plain = prices.figure("size", full)
    smaller = compiled.graph.copy()
    assert store_in_four_bits(smaller, names, context()) == len(names)
    saved = saved_bytes(terms, full, names)
    left = Ledger(context(), "size").total(smaller)
    # Operators and names that expand the weights take room as well.
    assert plain - saved <= left <= plain - 0.5 * saved
