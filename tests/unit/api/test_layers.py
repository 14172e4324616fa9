"""The report by layer: kernels of both models matched, with times that add up to the estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import graphopt
from graphopt import ir
from graphopt.api.layers import Anatomy, Reasons, layer_records
from graphopt.api.setup import cost_model, find_target
from graphopt.registry import Registry
from graphopt.report import PrecisionRecord, ReturnedOperator

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.report import Report


@pytest.fixture(scope="module")
def made(models: Path) -> Compiled:
    return graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        data=models / "digits.npz",
        measure=False,
        sensitivity=True,
    )


@pytest.fixture(scope="module")
def report(made: Compiled) -> Report:
    return made.report


def test_every_kernel_is_in_the_layers(report: Report) -> None:
    assert report.kernels is not None
    before = sum(k.latency_us for k in report.kernels.before)
    after = sum(k.latency_us for k in report.kernels.after)
    assert sum(n.latency_before_us for n in report.layers) == pytest.approx(before, rel=1e-9)
    assert sum(n.latency_after_us for n in report.layers) == pytest.approx(after, rel=1e-9)
    assert len([n for n in report.layers if n.kernel_before]) == len(report.kernels.before)


def test_times_add_up_to_the_estimate_of_the_whole(report: Report) -> None:
    figure = next(f for f in report.figures if f.name == "latency")
    assert report.kernels is not None
    # What is not in any kernel, such as the cost of a call, is less than a tenth.
    assert sum(k.latency_us for k in report.kernels.before) / 1e3 <= figure.before * 1.001
    assert sum(k.latency_us for k in report.kernels.after) / 1e3 >= figure.after * 0.9


def test_kernels_read_those_before_them(report: Report) -> None:
    assert report.kernels is not None
    for graph in (report.kernels.before, report.kernels.after):
        assert all(source < index for index, k in enumerate(graph) for source in k.reads)
        read = {source for k in graph for source in k.reads}
        unread = [k for i, k in enumerate(graph[:-1]) if i not in read and k.node]
        assert unread == []


def test_heavy_layers_have_the_precision_that_the_runtime_gives_them(report: Report) -> None:
    rows = {n.node: n for n in report.layers}
    for operator in report.operators:
        row = rows[operator.node]
        assert row.precision_before == "float32"
        assert (row.precision_after == "int8") == (operator.execution == "integer")
        assert row.channels_before == row.channels_after
        assert row.latency_after_us > 0


def test_noise_is_measured_for_every_integer_layer(report: Report) -> None:
    assert report.sensitivity is not None
    assert report.sensitivity.samples == 16
    integers = {o.node for o in report.operators if o.execution == "integer"}
    assert integers <= {n.node for n in report.sensitivity.layers}
    rows = {n.node: n.snr_db for n in report.layers}
    assert all(rows[name] is not None for name in integers)


def test_nobody_pays_for_noise_that_was_not_asked_for(models: Path) -> None:
    plain = graphopt.compile(
        models / "digits_resnet.onnx", target="arm", data=models / "digits.npz", measure=False
    )
    assert plain.report.sensitivity is None
    assert plain.report.layers


def test_without_data_there_is_no_noise(models: Path) -> None:
    plain = graphopt.compile(models / "digits_resnet.onnx", measure=False, sensitivity=True)
    assert plain.report.sensitivity is None
    assert {n.precision_after for n in plain.report.layers} <= {"float32", ""}


def anatomy(text: str) -> Anatomy:
    registry = Registry()
    target = find_target("arm", registry)
    graph = ir.parse(text)
    return Anatomy.of(graph, cost_model(target, registry).estimate(graph, target))


WIDE = """g (float[1,8,16,16] x, float[{0},8,1,1] w, float[8,{0},1,1] v) => (float[1,8,16,16] y) {{
    a = Conv(x, w)
    b = Erf(a)
    y = Conv(b, v)
}}"""


def test_pruned_layers_tell_what_is_left_and_why() -> None:
    before, after = anatomy(WIDE.format(32)), anatomy(WIDE.format(24))
    reasons = Reasons(
        precision=PrecisionRecord(
            "SNR", "dB", 10.0, 5.0, 12.0, (ReturnedOperator("a", 3.0, "too noisy"),), 2, True
        )
    )
    rows = {n.node: n for n in layer_records(before, after, reasons)}
    assert (rows["a"].channels_before, rows["a"].channels_after) == (32, 24)
    assert (rows["y"].channels_before, rows["y"].channels_after) == (8, 8)
    assert rows["b"].channels_before is None
    assert rows["a"].why == "pruned: with the layers it is coupled to; too noisy"


def test_a_rewrite_stands_for_what_it_is_named_after() -> None:
    text = "g (float[1,8,16,16] x) => (float[1,8,16,16] y) {{ c = {0}(x)\n y = Sin(c) }}"
    before, after = anatomy(text.format("Erf")), anatomy(text.format("Tanh").replace("c", "c_tanh"))
    (first, second) = layer_records(before, after, Reasons())
    assert (first.node, first.kernel_after) == ("c", "Tanh")
    assert second.kernel_after == "Sin"


def test_what_went_and_what_came_has_a_row() -> None:
    after = anatomy("""g (float[1,8,16,16] x, float[8,8,1,1] w) => (float[1,8,16,16] y) {
        c = Sin(x)
        y = Conv(c, w)
    }""")
    rows = {n.node: n for n in layer_records(anatomy(WIDE.format(8)), after, Reasons())}
    assert (rows["a"].kernel_after, rows["a"].precision_after) == ("", "")
    assert (rows["c"].kernel_before, rows["c"].latency_before_us) == ("", 0.0)
    assert rows["y"].kernel_after.endswith("Conv")
