"""Whatever a pass does wrong: it is rolled back, named with its code, and the compile goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.errors import GraphOptError
from graphopt.recipe import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt import ir
    from graphopt.ir import Graph


def only(graph: Graph, op: str) -> ir.Node:
    (node,) = graph.nodes(op)
    return node


def bypass(graph: Graph, op: str) -> None:
    node = only(graph, op)
    source = node.inputs[0]
    assert source is not None
    graph.replace_uses(node.outputs[0], source)
    graph.remove(node)


def raises(graph: Graph) -> None:
    bypass(graph, "Relu")
    raise ZeroDivisionError("oops")


def nothing(graph: Graph) -> None:
    assert graph.nodes()


def rename(graph: Graph) -> None:
    only(graph, "Relu").name = "relu"


def breaks_ssa(graph: Graph) -> None:
    graph.remove(only(graph, "Relu"))


def makes_a_cycle(graph: Graph) -> None:
    only(graph, "Gemm").set_input(0, only(graph, "Tanh").outputs[0])


def drops_an_attribute_that_is_needed(graph: Graph) -> None:
    graph.add_node("Transpose", [only(graph, "Neg").outputs[0]] * 3)


def changes_outputs(graph: Graph) -> None:
    bypass(graph, "Tanh")


def changes_shape(graph: Graph) -> None:
    tanh = only(graph, "Tanh")
    source = tanh.inputs[0]
    flat = graph.add_node("Flatten", [source], attributes={"axis": 0}).outputs[0]
    tanh.set_input(0, flat)


def makes_nan(graph: Graph) -> None:
    only(graph, "Tanh").op = "Log"


def loses_a_fusion(graph: Graph) -> None:
    # x = -(-x) is exact, but now Gemm and Relu are apart.
    relu = only(graph, "Relu")
    first = graph.add_node("Neg", [relu.inputs[0]]).outputs[0]
    shape = graph.add_constant("shape", np.array([0, 4, 1, 1], np.int64))
    back = graph.add_constant("back", np.array([0, 4], np.int64))
    there = graph.add_node("Reshape", [first, shape]).outputs[0]
    again = graph.add_node("Reshape", [there, back]).outputs[0]
    relu.set_input(0, graph.add_node("Neg", [again]).outputs[0])


FAULTS: dict[str, tuple[Callable[[Graph], None], bool, str]] = {
    "raises": (raises, True, "G301"),
    "breaks SSA": (breaks_ssa, True, "G302"),
    "makes a cycle": (makes_a_cycle, True, "G302"),
    "breaks a signature": (drops_an_attribute_that_is_needed, True, "G302"),
    "changes outputs": (changes_outputs, True, "G303"),
    "changes a shape": (changes_shape, True, "G303"),
    "makes NaN": (makes_nan, True, "G303"),
    "loses a fusion": (loses_a_fusion, True, "G304"),
    "says it changed nothing": (rename, False, "G305"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_pass_is_rolled_back_named_and_followed(
    bench: Callable, passes: Any, fault: str
) -> None:
    act, modified, code = FAULTS[fault]
    change, _ = passes
    done = bench(provider_of=lambda _: "fancy")
    done.run(change(act, modified))
    assert done.untouched
    (record,), (notice,) = done.runner.records, done.runner.notices
    assert (record.status, record.effect) == ("rolled back", "exact")
    assert notice.code == code
    assert "`change`" in notice.message
    assert notice.message.endswith("; it was rolled back")
    assert record.reason is not None
    assert record.reason in notice.message
    done.run(change(rename))
    assert [r.status for r in done.runner.records] == ["rolled back", "changed"]
    assert done.graph.nodes("Relu")[0].name == "relu"


@pytest.mark.parametrize("fault", FAULTS)
def test_strict_stops_at_the_first_fault(bench: Callable, passes: Any, fault: str) -> None:
    act, modified, code = FAULTS[fault]
    change, _ = passes
    done = bench(strict=True, provider_of=lambda _: "fancy")
    with pytest.raises(GraphOptError) as raised:
        done.run(change(act, modified), change(rename))
    assert raised.value.code == code
    assert raised.value.where == "pass `change` (fancy)"
    assert done.runner.records == []


def test_the_cause_of_a_failure_is_kept_for_the_log(bench: Callable, passes: Any) -> None:
    change, _ = passes
    with pytest.raises(GraphOptError, match="ZeroDivisionError: oops") as raised:
        bench(strict=True).run(change(raises))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_approximate_pass_is_measured_against_its_budget(bench: Callable, passes: Any) -> None:
    _, blur = passes

    def scale(graph: Graph) -> None:
        neg = only(graph, "Neg")
        factor = graph.add_constant("factor", np.float32(0.99))
        neg.set_input(0, graph.add_node("Mul", [neg.inputs[0], factor]).outputs[0])

    kept = bench(limits=Limits(min_snr_db=39.0)).run(blur(scale))
    (record,) = kept.runner.records
    assert record.status == "changed"
    assert record.snr_db == pytest.approx(40.0, abs=0.01)  # 20 log10(1 / 0.01)
    assert record.max_error is None
    refused = bench(limits=Limits(min_snr_db=41.0)).run(blur(scale))
    assert refused.untouched
    assert refused.runner.notices[0].code == "G306"
    assert refused.runner.records[0].reason == (
        "`blur` left a signal-to-noise ratio of 40.0 dB, limit 41 dB"
    )


def test_an_approximate_pass_that_makes_nan_or_another_shape_is_rolled_back(
    bench: Callable, passes: Any
) -> None:
    _, blur = passes
    for act in (makes_nan, changes_shape):
        done = bench(limits=Limits(min_snr_db=-1000.0)).run(blur(act))
        assert done.untouched
        assert done.runner.notices[0].code == "G306"


def test_an_exact_pass_within_the_tolerance_is_kept_with_its_error(
    bench: Callable, passes: Any
) -> None:
    change, _ = passes

    def nudge(graph: Graph) -> None:
        neg = only(graph, "Neg")
        factor = graph.add_constant("factor", np.float32(1.00001))
        neg.set_input(0, graph.add_node("Mul", [neg.inputs[0], factor]).outputs[0])

    (record,) = bench().run(change(nudge)).runner.records
    assert record.status == "changed"
    assert record.max_error == pytest.approx(1e-5, rel=0.2)
    assert record.notes == ("done",)
    assert record.metrics == {"count": 1.0}
    strict = bench(limits=Limits(max_relative_error=1e-6)).run(change(nudge))
    assert strict.untouched
    assert strict.runner.notices[0].code == "G303"


def test_claiming_a_change_that_was_none_is_recorded_as_none(bench: Callable, passes: Any) -> None:
    change, _ = passes
    done = bench().run(change(nothing, True), change(nothing, False))
    assert [r.status for r in done.runner.records] == ["unchanged", "unchanged"]
    assert done.untouched
    assert done.runner.notices == []


def test_after_pass_sees_accepted_changes_only(bench: Callable, passes: Any) -> None:
    change, _ = passes
    seen: list[str] = []
    done = bench(after_pass=lambda name, graph: seen.append(f"{name} {len(graph.nodes())}"))
    done.run(change(raises), change(nothing), change(rename))
    assert seen == ["change 4"]


def test_a_rolled_back_graph_is_whole_for_the_next_pass(bench: Callable, passes: Any) -> None:
    change, _ = passes
    done = bench().run(change(breaks_ssa))
    for held in (*done.graph.nodes(), *done.graph.values()):
        assert held.graph is done.graph
    assert [v.name for v in done.graph.outputs] == ["y"]
    done.run(change(lambda graph: graph.add_constant("more", np.zeros(2, np.float32))))
    assert done.runner.records[-1].status == "changed"
