"""Operators are returned to float until the stated accuracy is kept, and no more than needed."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt.api.budget import _most_integer, quantizing_section
from graphopt.errors import DataError, RecipeError
from graphopt.hookspecs import hookimpl
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.rewrite.align_channels import AlignChannels
from graphopt.planner.exclusion import without
from graphopt.planner.precision import _shrunk, _Trial
from graphopt.planner.ranking import neighbours, ordered
from graphopt.recipe import PassEntry, Recipe
from graphopt.registry import BUILTIN_PLUGINS, Registry
from graphopt.report import CandidateRecord, LayerSensitivity
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.ir import Graph

WEIGHTS = ", ".join(f"float[16, 16, 3, 3] w{i}" for i in range(6))
CHAIN = "\n".join(f"[c{i}] v{i + 1} = Conv <pads = [1, 1, 1, 1]> (v{i}, w{i})" for i in range(5))
TEXT = f"""m (float[N, 16, 8, 8] v0) => (float[N, 16, 8, 8] y) <{WEIGHTS}> {{
  {CHAIN}
  [c5] y = Conv <pads = [1, 1, 1, 1]> (v5, w5) }}"""
CLASSES = """m (float[N, 16] x) => (float[N, 4] y) <float[16, 16] w0, float[16, 4] w1> {
  [m0] a = MatMul (x, w0)  r = Relu (a)
  [m1] y = MatMul (r, w1) }"""


PLAIN = Recipe(passes=(PassEntry("calibrate"), PassEntry("insert-qdq", {"placement": "integer"})))
"""Without the passes that would cure what these models suffer from."""
AUTO = Recipe(passes=(PassEntry("calibrate"), PassEntry("insert-qdq")))


def model(outlier: float = 0.0) -> Graph:
    """Six convolutions; with an outlier, channel 3 of c2 is loud, and c3 hardly reads it."""
    random = np.random.default_rng(3)
    weights = {f"w{i}": random.normal(size=(16, 16, 3, 3)) * 0.1 for i in range(6)}
    if outlier:
        weights["w2"][3, 0, 0, 0] = outlier
        weights["w3"][:, 3] *= 0.1 / outlier
    return graph(TEXT, **{k: v.astype(np.float32) for k, v in weights.items()})


def samples(count: int = 32) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"v0": random.normal(size=(count, 16, 8, 8)).astype(np.float32)}


def compiled(given: Graph, *limits: str, data: Any = None, recipe: Recipe = PLAIN) -> Compiled:
    return graphopt.compile(
        given,
        data=samples() if data is None else data,
        recipe=recipe,
        target="x86-avx512-vnni",
        overrides=[f"limits.{each}" for each in limits],
    )


def excluded(done: Compiled) -> set[str]:
    (record,) = [p for p in done.report.passes if p.name == "insert-qdq"]
    return set(record.options["exclude"])


def test_the_poisoned_layer_is_returned_and_the_others_stay() -> None:
    plain = compiled(model(60.0), "min-snr-db=-100")
    (before,) = [p.snr_db for p in plain.report.passes if p.name == "insert-qdq"]
    assert before is not None
    assert before < 20
    done = compiled(model(60.0), "min-snr-db=25")
    record = done.report.precision
    assert record is not None
    assert (record.measure, record.unit, record.limit) == ("SNR", "dB", 25.0)
    assert record.before == pytest.approx(before)
    assert record.after >= 25
    # c2 writes the tensor with the loud channel, and c3 reads it.
    assert excluded(done) == {"c2", "c3"}
    reasons = {r.node: r.why for r in record.returned}
    assert reasons["c2"].startswith("a weight of magnitude 60 is an outlier")
    integer = {o.node for o in done.report.operators if o.execution == "integer"}
    assert integer == {"c0", "c1", "c4", "c5"}


def test_the_decision_is_in_the_recipe_and_repeats(tmp_path: Path) -> None:
    done = compiled(model(60.0), "min-snr-db=25")
    path = tmp_path / "recipe.toml"
    path.write_text(done.report.recipe, encoding="utf-8")
    again = graphopt.compile(model(60.0), data=samples(), recipe=path)
    assert again.report.precision is None
    assert again.to_bytes() == done.to_bytes()


def test_a_limit_that_is_kept_changes_nothing() -> None:
    done = compiled(model(), "min-snr-db=20")
    assert done.report.precision is None
    assert excluded(done) == set()


def test_a_limit_that_nothing_keeps_leaves_everything_in_float_and_says_so() -> None:
    done = compiled(model(), "min-snr-db=200")
    record = done.report.precision
    assert record is not None
    assert not record.kept
    assert {r.node for r in record.returned} == {f"c{i}" for i in range(6)}
    assert [n.code for n in done.report.notices if n.code == "W306"]
    assert not done.graph.nodes("QuantizeLinear")
    assert 'placement = "float"' in done.report.recipe


def test_placements_that_are_all_too_noisy_are_mixed() -> None:
    random = np.random.default_rng(0)
    data = {"v0": random.normal(size=(32, 16, 8, 8)).astype(np.float32)}
    done = compiled(model(60.0), "min-snr-db=30", data=data, recipe=AUTO)
    record = done.report.precision
    if record is not None:
        assert record.after >= 30
    (step,) = [p for p in done.report.passes if p.name == "insert-qdq"]
    assert step.status == "unchanged" or (step.snr_db or 0) >= 30


def classes(count: int, *, labels: bool = True) -> tuple[Graph, dict[str, Any]]:
    """A linear classifier whose float model is always right, and one loud hidden unit."""
    random = np.random.default_rng(5)
    first = (random.normal(size=(16, 16)) * 0.3).astype(np.float32)
    second = random.normal(size=(16, 4)).astype(np.float32)
    first[:, 3] *= 3000
    second[3] *= 1e-5
    x = random.normal(size=(count, 16)).astype(np.float32)
    data: dict[str, Any] = {"x": x}
    if labels:
        data["labels"] = (np.maximum(x @ first, 0) @ second).argmax(axis=1)
    return graph(CLASSES, w0=first, w1=second), data


def test_a_drop_of_top1_is_kept_on_labelled_samples() -> None:
    given, data = classes(500)
    done = compiled(given, "max-drop=0.5", "min-snr-db=-100", data=data)
    record = done.report.precision
    assert record is not None
    assert (record.measure, record.unit, record.limit) == ("top1", "points", 99.5)
    assert record.before < 80
    assert record.after >= 99.5
    # 500 samples less the 128 that were calibrated on.
    assert record.basis == "372 validation samples, the original has 100"


def test_a_drop_needs_labels_and_a_metric_that_fits() -> None:
    given, data = classes(200, labels=False)
    with pytest.raises(DataError, match="no labels") as caught:
        compiled(given, "max-drop=1", "metric=top1", data=data)
    assert caught.value.code == "G216"
    with pytest.raises(DataError, match="does not decide between classes"):
        compiled(model(), "max-drop=1")
    with pytest.raises(DataError, match="no data to judge it on") as caught:
        graphopt.compile(given, overrides=["limits.max-drop=1"], recipe="lossless")
    assert caught.value.code == "G216"
    data["labels"] = np.zeros((200, 4), np.float32)
    with pytest.raises(RecipeError, match="not the class numbers"):
        compiled(given, "max-drop=1", data=data)
    with pytest.raises(RecipeError, match="unknown metric `nonsense`"):
        compiled(given, "max-drop=1", "metric=nonsense", data=data)
    done = compiled(given, "max-drop=1e9", "metric=negative-mse", "min-snr-db=-100", data=data)
    assert done.report.precision is None


def test_a_metric_of_a_plugin_is_asked() -> None:
    asked: list[int] = []

    def exact(outputs: Any, labels: Any) -> float:
        asked.append(len(outputs))
        return float(np.mean([o.argmax() == y for o, y in zip(outputs, labels, strict=True)]))

    module = ModuleType("own")
    module.graphopt_register_metrics = hookimpl(lambda: [("exact", exact)])  # type: ignore[attr-defined]
    registry = Registry(plugins=(), builtins=[*BUILTIN_PLUGINS, module])
    given, data = classes(300)
    limits = ["limits.max-drop=0.01", "limits.metric=exact", "limits.min-snr-db=-100"]
    done = graphopt.compile(
        given, data=data, recipe=PLAIN, overrides=limits, registry=registry, measure=False
    )
    record = done.report.precision
    assert record is not None
    assert (record.measure, record.unit, record.limit) == ("exact", "", pytest.approx(0.99))
    assert record.after >= 0.99
    # All 172 that were not calibrated on, and for the interval with each of 20 groups left out.
    assert set(asked) == {172, 164, 163}


def test_too_few_labels_for_the_drop_are_a_warning() -> None:
    given, data = classes(40)
    done = compiled(given, "max-drop=0.5", "min-snr-db=-100", data=data)
    assert "W212" in {n.code for n in done.report.notices}


def layer(name: str, snr: float) -> LayerSensitivity:
    return LayerSensitivity(name, "Conv", snr, snr, snr, snr, "")


def test_the_ranking_counts_time_and_borders() -> None:
    near = {"a": {"b"}, "b": {"a", "c"}, "c": {"b", "d"}, "d": {"c", "e"}, "e": {"d"}}
    layers = [layer(n, s) for n, s in zip("abcde", (30.0, 20.0, 30.0, 29.5, 30.0), strict=True)]
    gains = dict.fromkeys(near, 1.0)
    order = [n.node for n in ordered(layers, gains, 5.0, near)]
    # Beside `b` there is a border already, which makes its neighbours cheaper than `d`.
    assert order[0] == "b"
    assert set(order[1:3]) == {"a", "c"}
    dear = [n.node for n in ordered(layers, {**gains, "b": 1e6}, 5.0, near)]
    assert dear[-1] == "b"


class FakeBench:
    """Keeps its budget when these operators are in float."""

    def __init__(self, needed: set[str]) -> None:
        self.needed = needed

    def check(self, excluded: frozenset[str]) -> Any:
        return _Trial(excluded, None, 0.0, None, self.needed <= excluded)  # type: ignore[arg-type]


@pytest.mark.parametrize("needed", [{"a"}, {"h"}, {"c", "d"}, set("abcdefgh")])
def test_shrinking_keeps_what_is_needed_and_ends(needed: set[str]) -> None:
    ranked = [layer(n, 1.0) for n in "abcdefgh"]
    bench: Any = FakeBench(needed)
    found = _shrunk(bench, bench.check(frozenset("abcdefgh")), ranked)
    assert needed <= found.excluded
    assert found.holds
    if len(needed) < 3:
        assert len(found.excluded) <= 4


def test_names_are_excluded_literally() -> None:
    step = without(InsertQdq(exclude=("stem*",)), frozenset({"b[0]", "a*"}))
    assert isinstance(step, InsertQdq)
    assert step.exclude == ("stem*", "a[*]", "b[[]0]")
    assert quantizing_section([InsertQdq()]) == (0, 1)
    assert quantizing_section([]) == (0, 0)
    assert neighbours(model(), []) == {}


def candidate(placement: str, speedup: float | None, snr_db: float | None) -> CandidateRecord:
    return CandidateRecord(placement, speedup, "measured", snr_db, chosen=speedup is not None)


def test_padding_alone_does_not_stand_for_a_plan_with_integers() -> None:
    """Where all integers were too noisy, some of them are tried, whatever float model was best."""
    steps = (AlignChannels(mode="on"), InsertQdq("float"))
    noisy = candidate("integer, aligned", None, 19.9)
    whole = (AlignChannels(mode="on"), InsertQdq("integer"))
    assert tuple(_most_integer(steps, [candidate("float, aligned", 1.07, None), noisy])) == whole
    assert tuple(_most_integer(steps, [noisy])) == whole
    assert tuple(_most_integer(steps, [candidate("head-1", 0.9, 30.0), noisy])) == steps
    assert tuple(_most_integer(steps, [candidate("float", 1.0, None)])) == steps
