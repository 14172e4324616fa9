"""Proposals are recipes' options, deterministic, and what they predict is what is made."""

from __future__ import annotations

import dataclasses

import pytest

import graphopt
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls
from graphopt.planner.assignment import propose_assignments
from graphopt.planner.assignment.limit import LimitSearch
from graphopt.planner.assignment.precisions import INT8, applied, labels_of, overrides_of, settled
from graphopt.planner.precision import Budget, _Bench, keep_accuracy
from graphopt.recipe import PassEntry, Recipe
from tests.unit.planner.assignment.small_models import Small, convolutions, products


def proposed(small: Small, most: int = 5) -> tuple[graphopt.planner.assignment.Assignment, ...]:  # type: ignore[name-defined]
    return propose_assignments(small.graph, small.steps, small.context, small.verifier, most=most)


def test_proposals_are_a_front_and_repeat() -> None:
    found = proposed(convolutions())
    assert len(found) > 1
    assert [a.predicted_ms for a in found] == sorted({a.predicted_ms for a in found})
    assert [a.predicted_snr_db for a in found] == sorted({a.predicted_snr_db for a in found})
    again = proposed(convolutions())
    assert [(a.label, a.overrides, a.predicted_ms) for a in again] == [
        (a.label, a.overrides, a.predicted_ms) for a in found
    ]


def test_the_options_of_a_proposal_give_its_model() -> None:
    small = convolutions()
    found = proposed(small)[-1]
    assert found.overrides
    recipe = Recipe(
        passes=(PassEntry("calibrate"), PassEntry("insert-qdq", {"placement": "integer"}))
    )
    data = {"x": next(iter(small.context.dataset))["x"]}  # type: ignore[arg-type]
    done = graphopt.compile(
        small.graph,
        data=data,
        recipe=recipe,
        target="x86-avx512-vnni",
        overrides=[*found.overrides, "limits.min-snr-db=-100"],
        measure=False,
    )
    integer = {o.node for o in done.report.operators if o.execution == "integer"}
    heavy = {n for n, label in found.labels.items() if label == INT8} - {"add"}
    assert integer & {"c0", "c1", "c2", "c3", "c4", "fc"} == heavy


def test_without_data_or_passes_nothing_is_proposed() -> None:
    small = convolutions()
    bare = dataclasses.replace(small.context, dataset=None)
    assert propose_assignments(small.graph, small.steps, bare, small.verifier) == ()
    assert propose_assignments(small.graph, (), small.context, small.verifier) == ()
    assert proposed(small, most=0) == ()


def test_open_passes_count_as_all_integer() -> None:
    steps = (InsertQdq(), QuantizeMatmuls())
    made = settled(steps)
    assert [labels_of(steps), labels_of(made)] == [("fp32", "int8", "int8-dynamic")] * 2
    assert made == (InsertQdq("integer"), QuantizeMatmuls("by-rows"))
    chosen = {"a": "fp32", 'b"[0]': "int8"}
    after = applied(made, chosen, {"int8": frozenset(chosen), "int8-dynamic": frozenset({"a"})})
    assert overrides_of(steps, after) == (
        'insert-qdq.placement="integer"',
        'insert-qdq.exclude=["a"]',
        'quantize-matmuls.mode="off"',
    )
    rest = applied(made, {"a": "int8", 'b"[0]': "fp32"}, {"int8": frozenset(chosen)})
    assert overrides_of(made, rest)[0] == 'insert-qdq.exclude=["b\\"[[]0]"]'


def both() -> dict[str, Small]:
    """Return a model of convolutions, and one of products that two passes can quantize."""
    steps = (InsertQdq("integer"), QuantizeMatmuls("dynamic"))
    return {"convolutions": convolutions(), "products": products(*steps)}


@pytest.mark.parametrize("kind", ["convolutions", "products"])
@pytest.mark.parametrize("above_db", [2.0, 6.0, 12.0])
def test_with_the_cut_no_limit_is_kept_by_a_slower_model(kind: str, above_db: float) -> None:
    small = both()[kind]
    bench = small.assigner().bench
    budget = Budget(bench.snr_db(small.steps) + above_db)
    times = {}
    for by in (("ranking",), ("cut",), ("ranking", "cut")):
        done = keep_accuracy(small.graph, small.steps, small.context, small.verifier, budget, by=by)
        assert done.record is not None
        if done.record.kept:
            assert bench.snr_db(done.steps) >= budget.min_snr_db
        times[by] = bench.latency_ms(done.steps) if done.record.kept else float("inf")
    assert times["ranking", "cut"] <= min(times["ranking",], times["cut",]) * (1 + 1e-9)


def test_a_limit_that_only_a_metric_knows_is_found_by_bisection() -> None:
    small = convolutions()
    assigner = small.assigner()
    made = []

    class Judged:
        def __init__(self, snr_db: float) -> None:
            self.snr_db = snr_db
            self.holds = snr_db >= 38.0

    def check(choice: object) -> Judged:
        made.append(choice)
        return Judged(assigner.bench.snr_db(choice.steps))  # type: ignore[attr-defined]

    held = LimitSearch(assigner, check, None).run()
    assert held
    assert min(h.snr_db for h in held) >= 38.0
    assert len(made) <= 16


@pytest.mark.parametrize("is_faster", [False, True])
def test_what_keeps_the_limit_must_be_faster_than_no_integers(
    is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = convolutions()
    bench = small.assigner().bench
    budget = Budget(bench.snr_db(small.steps) + 6.0)
    rival = tuple(
        dataclasses.replace(step, placement="float") if isinstance(step, InsertQdq) else step
        for step in small.steps
    )
    given = (small.graph, small.steps, small.context, small.verifier, budget)
    if is_faster:
        monkeypatch.setattr(
            _Bench, "latency_ms", lambda bench, made: 1.0 + len(made.nodes("QuantizeLinear"))
        )
    done = keep_accuracy(*given, rival=rival)
    assert done.record is not None
    assert done.record.kept is not is_faster
    assert (done.steps == rival) is is_faster
