"""Which placement is chosen, with a stand-in for the clock and for the cost model."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

import graphopt
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.recover.equalize_clipped_layers import EqualizeClippedLayers
from graphopt.pipeline import Verifier, probe_feeds
from graphopt.planner import Decision, choose_plan
from graphopt.planner import judges as planner
from graphopt.planner.workshop import Workshop
from graphopt.recipe import Limits
from graphopt.runtime import RaceResult, Timing
from graphopt.testing import context, graph, named_target, random_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass

WEIGHTS = ", ".join(f"float[16, 16, 3, 3] w{i}" for i in range(4))
MODEL = f"""m (float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y) <{WEIGHTS}> {{
  [c0] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  [c1] b = Conv <pads = [1, 1, 1, 1]> (a, w1)
  [c2] c = Conv <pads = [1, 1, 1, 1]> (b, w2)
  [c3] y = Conv <pads = [1, 1, 1, 1]> (c, w3) }}"""
THIN = """m (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y)
    <float[4, 3, 3, 3] w0, float[2, 4, 3, 3] w1> {
  [c0] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  [c1] y = Conv <pads = [1, 1, 1, 1]> (a, w1) }"""
SHAPES = {
    "1111": "integer",
    "1110": "tail-1",
    "0111": "head-1",
    "0110": "head-1-tail-1",
    "0011": "head-2",
    "0010": "head-2-tail-1",
    "0001": "head-3",
    "0000": "float",
}


def placement_of(model: Graph) -> str:
    """Recognise a placement by which convolutions read integers."""
    marks = ""
    for node in model.nodes("Conv"):
        weight = node.inputs[1]
        assert weight is not None
        marks += "1" if weight.producer is not None else "0"
    if len(marks) == 4:
        return SHAPES.get(marks, "other")
    padded = "" if model.nodes("Pad", "Slice") else " thin"
    return {"11": f"integer{padded}", "00": "float"}.get(marks, "other")


@dataclass
class FakeCost:
    """Milliseconds by placement; what is not listed takes as long as float."""

    name: ClassVar[str] = "fake"
    ms: Mapping[str, float]
    asked: list[str] = field(default_factory=list)

    def estimate(self, model: Graph, target: Any) -> Any:
        placement = placement_of(model)
        self.asked.append(placement)
        value = self.ms.get(placement, self.ms.get("float", 1.0))
        latency = types.SimpleNamespace(value=value)
        return types.SimpleNamespace(latency_ms=latency, kernels=())


class FakeClock:
    """A race whose result is known beforehand: milliseconds by label, for each race in turn."""

    def __init__(self, *races: Mapping[str, float]) -> None:
        self.races = list(races)
        self.ran: list[set[str]] = []

    def __call__(self, contenders: Mapping[str, Any], feeds: Any, **_: Any) -> RaceResult:
        self.ran.append(set(contenders))
        ms = self.races[min(len(self.ran), len(self.races)) - 1]
        timings = {name: Timing(ms.get(name, 1.0), ms.get(name, 1.0), 5) for name in contenders}
        return RaceResult(timings, {name: (ms.get(name, 1.0),) * 5 for name in contenders})


def decide(
    *,
    text: str = MODEL,
    ms: Mapping[str, float] | None = None,
    clock: FakeClock | None = None,
    limits: Limits | None = None,
    data: bool = True,
    step: InsertQdq | None = None,
    before: tuple[Pass, ...] = (),
) -> Decision:
    model = graph(text)
    feeds = random_feeds(model, count=4)
    target = named_target("x86-avx512-vnni")
    asked = context(data=feeds, model=model) if data else context()
    asked.cost = FakeCost(ms or {})
    verifier = Verifier(model, target, probe_feeds(model, feeds, 0), feeds)
    return choose_plan(
        model,
        (*before, step or InsertQdq()),
        asked,
        verifier,
        limits or Limits(),
        measure=clock is not None,
        seconds=0.1,
    )


def insert_of(decision: Decision) -> InsertQdq:
    (step,) = decision.steps
    assert isinstance(step, InsertQdq)
    return step


def chosen(decision: Decision) -> str:
    (record,) = [c for c in decision.candidates if c.chosen]
    return record.placement


@pytest.mark.parametrize("best", ["integer", "head-1", "head-2", "head-3"])
def test_the_fastest_forecast_wins(best: str) -> None:
    decision = decide(ms={**dict.fromkeys(SHAPES.values(), 0.9), "float": 1.0, best: 0.5})
    assert insert_of(decision).placement == chosen(decision) == best
    speeds = {c.placement: c.speedup for c in decision.candidates}
    assert speeds[best] == pytest.approx(2.0)
    assert {c.source for c in decision.candidates} == {"estimated"}
    assert speeds["float"] == 1.0
    # Where all-integer is far ahead of a short float head, longer ones are not made.
    heads = {"head-1"} if best == "integer" else {"head-1", "head-2", "head-3"}
    assert set(speeds) >= {"integer", *heads}


@pytest.mark.parametrize("head", ["integer", "head-1", "head-2"])
def test_a_float_tail_is_tried_with_the_winner(head: str) -> None:
    tail = "tail-1" if head == "integer" else f"{head}-tail-1"
    ms = {**dict.fromkeys(SHAPES.values(), 0.9), "float": 1.0, head: 0.5}
    assert chosen(decide(ms={**ms, tail: 0.4})) == tail
    assert chosen(decide(ms={**ms, tail: 0.495})) == head


def test_what_clearly_loses_is_not_varied() -> None:
    ms = {**dict.fromkeys(SHAPES.values(), 0.5), "float": 1.0}
    tried = {c.placement for c in decide(ms={**ms, "head-1": 0.6}).candidates}
    assert tried == {"integer", "head-1", "tail-1", "float"}


def test_of_equally_fast_ones_the_most_accurate_wins() -> None:
    decision = decide(ms={"float": 1.0, "integer": 0.52, "head-1": 0.503, "head-2": 0.500})
    snr = {c.placement: c.snr_db for c in decision.candidates if c.snr_db is not None}
    assert chosen(decision) == max(("head-1", "head-2"), key=lambda p: snr[p])
    snr = {c.placement: c.snr_db for c in decision.candidates}
    assert snr["float"] is None


def test_float_wins_where_nothing_is_forecast_to_be_as_fast() -> None:
    slower = dict.fromkeys(SHAPES.values(), 1.02) | {"float": 1.0}
    decision = decide(ms=slower)
    assert insert_of(decision).placement == chosen(decision) == "float"


def test_as_fast_is_enough_for_a_forecast_because_the_file_is_smaller() -> None:
    assert insert_of(decide(ms=dict.fromkeys(SHAPES.values(), 1.0))).placement != "float"


def test_a_measured_gain_within_the_noise_is_no_reason_to_quantize(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for gain, expected in ((1.03, "float"), (1.05, "integer")):
        clock = FakeClock({"integer": 1 / gain})
        monkeypatch.setattr(planner, "race", clock)
        decision = decide(clock=clock)
        assert insert_of(decision).placement == expected
        assert {c.source for c in decision.candidates} == {"measured"}


def test_the_finalists_race_again_and_the_second_race_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = {"integer": 0.50, "head-1": 0.55, "head-2": 0.7, "head-3": 0.8}
    whole: dict[str, float] = {}  # what the kernels' times are corrected by, before the cuts
    glances = {"integer": 0.5}, whole, {"integer": 0.5, "head-1": 0.5}
    last = {"integer": 0.6, "head-1": 0.5, "head-2": 0.7}
    clock = FakeClock(*glances, first, last, {"head-1": 0.5, "head-1-tail-1": 0.5})
    monkeypatch.setattr(planner, "race", clock)
    decision = decide(clock=clock)
    assert chosen(decision) == "head-1"
    assert {"integer", "head-1", "float"} <= clock.ran[4] <= clock.ran[3]
    speeds = {c.placement: c.speedup for c in decision.candidates}
    assert speeds["head-1"] == pytest.approx(2.0)
    assert speeds["head-3"] == pytest.approx(1 / 0.8)


def test_where_integer_is_far_too_slow_nothing_else_is_tried() -> None:
    decision = decide(ms={"float": 1.0, "integer": 2.0, "head-1": 0.1})
    assert [c.placement for c in decision.candidates] == ["integer", "float"]
    assert insert_of(decision).placement == "float"


def test_without_data_there_is_nothing_to_choose() -> None:
    decision = decide(data=False)
    assert decision == Decision((InsertQdq(placement="float"),))


def test_what_is_too_noisy_is_out_and_says_so() -> None:
    fast = dict.fromkeys(SHAPES.values(), 0.5) | {"float": 1.0}
    decision = decide(ms=fast, limits=Limits(min_snr_db=300.0))
    assert insert_of(decision).placement == "float"
    assert len(decision.candidates) >= 4
    for record in decision.candidates:
        assert not record.chosen
        assert record.why == "below the limit of 300 dB"


def test_only_the_noisy_ones_are_out() -> None:
    fast = dict.fromkeys(SHAPES.values(), 0.5) | {"float": 1.0, "integer": 0.1}
    open_choice = decide(ms=fast)
    snr = {c.placement: c.snr_db for c in open_choice.candidates if c.snr_db is not None}
    limit = (snr["integer"] + max(snr.values())) / 2
    decision = decide(ms=fast, limits=Limits(min_snr_db=limit))
    assert chosen(open_choice) == "integer"
    assert chosen(decision) not in {"integer", "float"}
    refused = {c.placement for c in decision.candidates if "below the limit" in c.why}
    assert "integer" in refused


@pytest.mark.parametrize(("thin_ms", "align"), [(0.4, False), (0.6, True)])
def test_the_winner_is_also_tried_without_padded_channels(thin_ms: float, align: bool) -> None:
    decision = decide(text=THIN, ms={"float": 1.0, "integer": 0.5, "integer thin": thin_ms})
    assert insert_of(decision).placement == "integer"
    assert insert_of(decision).align is align
    assert chosen(decision) == ("integer" if align else "integer, not padded")


def test_other_options_are_kept_in_every_candidate() -> None:
    step = InsertQdq(exclude=("c1",), align=False)
    decision = decide(ms=dict.fromkeys(SHAPES.values(), 0.5) | {"float": 1.0}, step=step)
    assert insert_of(decision).exclude == ("c1",)
    assert not insert_of(decision).align


def test_trials_explain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph(MODEL)
    feeds = random_feeds(model, count=4)
    asked = context(data=feeds, model=model)
    asked.cost = FakeCost({"float": 1.0, "integer": 0.5})
    verifier = Verifier(model, named_target("arm"), probe_feeds(model, feeds, 0), feeds)
    choose_plan(model, (InsertQdq(),), asked, verifier, Limits(), measure=False, seconds=0.1)
    assert asked.reasons == {}


def test_a_model_with_one_product_has_one_placement() -> None:
    text = """m (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w> { [g] y = Gemm (x, w) }"""
    model = graph(text)
    feeds = random_feeds(model, count=4)
    asked = context(data=feeds, model=model)
    verifier = Verifier(model, named_target("x86"), probe_feeds(model, feeds, 0), feeds)
    decision = choose_plan(
        model, (InsertQdq(),), asked, verifier, Limits(), measure=False, seconds=0.1
    )
    assert {c.placement for c in decision.candidates} <= {"integer", "float"}


SEPARABLE = """
separable (float[1, 3, 16, 16] x) => (float[1, 32, 16, 16] y)
<float[32, 3, 1, 1] w0, float[32, 1, 3, 3] w1, float[32, 32, 1, 1] w2, float[32, 1, 3, 3] w3>
{
    a = Conv (x, w0)
    b = Conv <group = 32, pads = [1, 1, 1, 1]> (a, w1)
    c = Conv (b, w2)
    y = Conv <group = 32, pads = [1, 1, 1, 1]> (c, w3)
}
"""


def test_wasm_keeps_float_where_integer_is_forecast_to_be_slower(tmp_path: Path) -> None:
    data = tmp_path / "x.npz"
    np.savez(data, x=np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32))
    compiled = graphopt.compile(graph(SEPARABLE), target="wasm", data=data)
    assert 'placement = "float"' in compiled.report.recipe
    assert chosen(Decision((), compiled.report.candidates)) == "float"
    assert not compiled.graph.nodes("QuantizeLinear")
    assert {o.execution for o in compiled.report.operators} == {"float"}


@pytest.mark.parametrize("worse", ["balanced", "learned"])
def test_the_rounding_that_is_nearer_on_held_out_samples_is_taken(
    worse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[int, str] = {}
    make = Workshop.make

    def noted(self: Workshop, plan: Any, *, rounding: str = "balanced") -> Any:
        candidate = make(self, plan, rounding=rounding)
        made[id(candidate)] = rounding
        return candidate

    monkeypatch.setattr(Workshop, "make", noted)
    monkeypatch.setattr(Workshop, "snr", lambda _, c: 30.0 if made[id(c)] == worse else 40.0)
    fast = dict.fromkeys(SHAPES.values(), 0.9) | {"float": 1.0, "integer": 0.5}
    decision = decide(ms=fast, step=InsertQdq(rounding="auto"))
    assert insert_of(decision).rounding != worse
    assert insert_of(decision).rounding != "auto"


CLIPPED = """m (float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y)
    <float[16, 16, 3, 3] w0, float[16, 1, 3, 3] w1, float zero = {0}, float six = {600}> {
  [c0] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  b = Clip (a, zero, six)
  [c1] y = Conv <pads = [1, 1, 1, 1], group = 16> (b, w1) }"""


@pytest.mark.parametrize(("gain_db", "mode"), [(3.0, "on"), (0.1, "off")])
def test_clipped_channels_are_scaled_where_that_is_clearly_nearer(
    gain_db: float, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snr(_: Workshop, candidate: Any) -> float:
        scaled = any(getattr(s, "mode", "") == "on" for s in candidate.plan.steps)
        return 30.0 + gain_db * scaled

    monkeypatch.setattr(Workshop, "snr", snr)
    decision = decide(
        text=CLIPPED, ms={"float": 1.0, "integer": 0.5}, before=(EqualizeClippedLayers(),)
    )
    assert [s.mode for s in decision.steps if isinstance(s, EqualizeClippedLayers)] == [mode]


def test_what_stays_float_is_not_clipped_any_further() -> None:
    decision = decide(text=CLIPPED, ms={"integer": 2.0}, before=(EqualizeClippedLayers(),))
    assert [s.mode for s in decision.steps if isinstance(s, EqualizeClippedLayers)] == ["off"]


LONG = "m (float[N, 4, 4, 4] v0) => (float[N, 4, 4, 4] v24) <{weights}> {{\n{nodes} }}".format(
    weights=", ".join(f"float[4, 4, 1, 1] w{i}" for i in range(24)),
    nodes="\n".join(f"[c{i}] v{i + 1} = Conv (v{i}, w{i})" for i in range(24)),
)


class FakeHeads(FakeCost):
    """Milliseconds by how many convolutions at the front are in float."""

    def estimate(self, model: Graph, target: Any) -> Any:
        marks = [n.inputs[1].producer is not None for n in model.nodes("Conv")]  # type: ignore[union-attr]
        head = marks.index(True) if any(marks) else len(marks)
        latency = types.SimpleNamespace(value=self.ms[str(head)])
        return types.SimpleNamespace(latency_ms=latency, kernels=())


@pytest.mark.parametrize(
    ("ms", "noise_db", "placement"),
    [
        ({}, 20.0, "head-12"),
        ({}, 27.0, "head-6"),  # which is quiet enough
        ({}, 30.0, "integer"),
        ({"6": 0.51, "12": 0.51}, 20.0, "integer"),
        ({"6": 0.51}, 20.0, "head-12"),
    ],
)
def test_where_it_costs_no_time_a_noisy_model_gets_a_longer_head(
    ms: dict[str, float], noise_db: float, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snr(_: Workshop, candidate: Any) -> float:
        head = candidate.plan.insert.placement.removeprefix("head-")
        return noise_db + (int(head) / 3.0 if head.isdigit() else 0.0)

    monkeypatch.setattr(Workshop, "snr", snr)
    monkeypatch.setattr(__name__ + ".FakeCost", FakeHeads)
    times = {"0": 0.5, "1": 0.9, "2": 0.9, "3": 0.9, "6": 0.5, "12": 0.5, "24": 1.0}
    decision = decide(text=LONG, ms=times | ms)
    assert insert_of(decision).placement == placement
