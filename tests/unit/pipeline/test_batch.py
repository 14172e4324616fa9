"""Exact passes that are checked together: the guilty one is found, undone alone, and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.errors import PassError
from graphopt.pipeline import Runner, Verifier, probe_feeds
from graphopt.recipe import Limits
from graphopt.testing import context, graph, named_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph

TOKENS = """m (float[N, T, 4] x) => (float[N, T, 4] y) <float[4, 4] w, int64[2] flat = {-1, 4}> {
  rows = Reshape (x, flat)
  p = MatMul (rows, w)
  r = Relu (p)
  s = Shape (x)
  q = Reshape (r, s)
  y = Neg (q) }"""


def only(graph: Graph, op: str) -> ir.Node:
    (node,) = graph.nodes(op)
    return node


def mark(name: str) -> Callable[[Graph], None]:
    """Return what puts an Identity of that name before the Neg: it changes nothing."""

    def act(graph: Graph) -> None:
        neg = only(graph, "Neg")
        neg.set_input(0, graph.add_node("Identity", [neg.inputs[0]], name=name).outputs[0])

    return act


def drop_relu(graph: Graph) -> None:
    relu = only(graph, "Relu")
    source = relu.inputs[0]
    assert source is not None
    graph.replace_uses(relu.outputs[0], source)
    graph.remove(relu)


def crash(graph: Graph) -> None:
    drop_relu(graph)
    raise KeyError("gone")


def corrupt(graph: Graph) -> None:
    only(graph, "Relu").set_inputs(())


def fix_batch(graph: Graph) -> None:
    sizes = graph.add_constant("sizes", np.array([2, -1, 4], np.int64))
    graph.nodes("Reshape")[-1].set_input(1, sizes)


def swap_sizes(graph: Graph) -> None:
    order = graph.add_constant("order", np.array([1, 0, 2], np.int64))
    last = graph.nodes("Reshape")[-1]
    last.set_input(1, graph.add_node("Gather", [last.inputs[1], order]).outputs[0])


def take_a_mean_for_one_row(graph: Graph) -> None:
    """Subtract and add the first row, which the runtime does exactly, but one row is another."""
    relu = only(graph, "Relu").outputs[0]
    zero = graph.add_constant("zero", np.float32(0))
    axis = graph.add_constant("axis", np.array([0], np.int64))
    mean = graph.add_node("ReduceMax", [relu], attributes={"axes": [0], "keepdims": 1}).outputs[0]
    assert axis is not None
    rest = graph.add_node("Sub", [relu, mean]).outputs[0]
    kept = graph.add_node("Mul", [rest, zero]).outputs[0]
    same = graph.add_node("Sub", [relu, kept]).outputs[0]
    ones = graph.add_node("Equal", [rest, zero]).outputs[0]
    every = graph.add_node("Cast", [ones], attributes={"to": 1}).outputs[0]
    whole = graph.add_node(
        "ReduceMin", [every], attributes={"axes": [0, 1], "keepdims": 1}
    ).outputs[0]
    graph.nodes("Reshape")[-1].set_input(0, graph.add_node("Add", [same, whole]).outputs[0])


def make_nan(graph: Graph) -> None:
    only(graph, "Relu").op = "Sqrt"


def rename_the_input(graph: Graph) -> None:
    graph.rename(graph.inputs[0], "another")


def return_doubles(graph: Graph) -> None:
    neg = only(graph, "Neg")
    neg.set_input(0, graph.add_node("Cast", [neg.inputs[0]], attributes={"to": 11}).outputs[0])
    neg.outputs[0].dtype = ir.Tensor.from_array(np.zeros(1)).dtype


def write_into_a_constant(graph: Graph) -> None:
    mark("innocent")(graph)
    graph.value("w").array()[0, 0] = 7


def make_a_constant_writable(graph: Graph) -> None:
    mark("innocent")(graph)
    array = graph.value("w").array()
    array.flags.writeable = True


FAULTS: dict[str, tuple[Callable[[Graph], None], str]] = {
    "crashes": (crash, "G301"),
    "corrupts the graph": (corrupt, "G302"),
    "changes outputs": (drop_relu, "G303"),
    "fixes a size": (fix_batch, "G215"),
    "takes one size for another": (swap_sizes, "G303"),
    "is wrong for one row only": (take_a_mean_for_one_row, "G303"),
    "makes NaN": (make_nan, "G303"),
    "renames an input": (rename_the_input, "G302"),
    "returns another type": (return_doubles, "G302"),
    "writes into a constant": (write_into_a_constant, "G301"),
    "makes a constant writable": (make_a_constant_writable, "G301"),
}


@pytest.fixture
def tokens() -> Graph:
    return graph(TOKENS)


@pytest.fixture
def runner(tokens: Graph) -> Runner:
    verifier = Verifier(tokens, named_target("x86"), probe_feeds(tokens, [], 0), [])
    return Runner(context(), verifier, Limits())


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_guilty_pass_of_a_batch_is_undone_alone(
    tokens: Graph, runner: Runner, passes: Any, fault: str, place: int
) -> None:
    act, code = FAULTS[fault]
    change, _ = passes
    marks = [change(mark(f"mark_{i}")) for i in range(4)]
    runner.run(tokens, [*marks[:place], change(act), *marks[place:]])
    status = [r.status for r in runner.records]
    assert status == ["changed"] * place + ["rolled back"] + ["changed"] * (4 - place)
    (notice,) = runner.notices
    assert notice.code == code
    assert runner.records[place].reason is not None
    assert notice.message == f"{runner.records[place].reason}; it was rolled back"
    ir.verify(tokens)
    assert [n.name for n in tokens.nodes("Identity")] == [f"mark_{i}" for i in range(4)]
    assert len(tokens.nodes("Relu")) == 1
    assert runner.verifier.check_exact(tokens).max_error == 0.0


def test_what_cannot_be_undone_stops_the_compile(
    tokens: Graph, runner: Runner, passes: Any
) -> None:
    change, _ = passes

    def in_place(graph: Graph) -> None:
        stored = graph.value("w").stored
        assert stored is not None
        assert stored._array is not None
        stored._array.flags.writeable = True
        stored._array[0, 0] += 3
        mark("innocent")(graph)

    with pytest.raises(PassError, match="wrote into constants or attributes in place") as raised:
        runner.run(tokens, [change(mark("first")), change(in_place), change(mark("last"))])
    assert raised.value.code == "G310"


def test_an_attribute_that_is_changed_in_place_stops_the_compile(passes: Any) -> None:
    model = graph("m (float[N, 4] x) => (float[N, 4] y) { y = LeakyRelu <alpha = 0.5> (x) }")
    verifier = Verifier(model, named_target("x86"), probe_feeds(model, [], 0), [])
    runner = Runner(context(), verifier, Limits())
    change, _ = passes

    def in_place(graph: Graph) -> None:
        only(graph, "LeakyRelu").attributes["alpha"].proto.f = 0.25

    with pytest.raises(PassError) as raised:
        runner.run(model, [change(in_place)])
    assert raised.value.code == "G310"


def test_passes_that_are_wrong_only_together_lose_the_later_one(
    tokens: Graph, runner: Runner, passes: Any
) -> None:
    change, _ = passes

    def believe_the_mark(graph: Graph) -> None:
        if graph.nodes("Identity"):
            drop_relu(graph)
        else:
            only(graph, "Relu").name = "looked at"

    runner.run(tokens, [change(mark("mark")), change(believe_the_mark), change(mark("last"))])
    assert [r.status for r in runner.records] == ["changed", "rolled back", "changed"]
    alone = graph(TOKENS)
    runner.run(alone, [change(believe_the_mark)])
    assert runner.records[-1].status == "changed"


def test_several_guilty_passes_are_all_undone(tokens: Graph, runner: Runner, passes: Any) -> None:
    change, _ = passes
    acts = [mark("a"), drop_relu, mark("b"), crash, make_nan, mark("c"), fix_batch]
    runner.run(tokens, [change(act) for act in acts])
    back = "rolled back"
    assert [r.status for r in runner.records] == [
        "changed", back, "changed", back, back, "changed", back,
    ]  # fmt: skip
    assert [n.code for n in runner.notices] == ["G303", "G301", "G303", "G215"]


def test_what_a_later_pass_repairs_is_no_fault(tokens: Graph, runner: Runner, passes: Any) -> None:
    change, _ = passes

    def put_back(graph: Graph) -> None:
        only(graph, "Sqrt").op = "Relu"

    runner.run(tokens, [change(make_nan), change(put_back)])
    assert [r.status for r in runner.records] == ["changed", "changed"]


def test_a_batch_without_fault_takes_one_check(
    tokens: Graph, runner: Runner, passes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, _ = passes
    checked: list[int] = []
    check = Verifier.check_exact

    def counted(self: Verifier, graph: Graph, *given: Any) -> Any:
        checked.append(len(graph.nodes()))
        return check(self, graph, *given)

    monkeypatch.setattr(Verifier, "check_exact", counted)
    runner.run(tokens, [change(mark(f"m{i}")) for i in range(16)])
    assert len(checked) == 1
    assert {r.max_error for r in runner.records} == {0.0}
    acts = [
        mark("n"),
        *[mark(f"o{i}") for i in range(7)],
        drop_relu,
        *[mark(f"p{i}") for i in range(7)],
    ]
    runner.run(tokens, [change(act) for act in acts])
    # The end, four to find one among sixteen, and the end of what is left.
    assert len(checked) <= 1 + 1 + 4 + 1
    assert [r.status for r in runner.records].count("rolled back") == 1


def test_a_lost_fusion_is_found_among_passes_that_save_kernels(
    bench: Callable, passes: Any
) -> None:
    change, _ = passes

    def part(graph: Graph) -> None:
        relu = only(graph, "Relu")
        shape = graph.add_constant("shape", np.array([0, 4, 1, 1], np.int64))
        back = graph.add_constant("back", np.array([0, 4], np.int64))
        there = graph.add_node("Reshape", [graph.add_node("Neg", relu.inputs).outputs[0], shape])
        again = graph.add_node("Reshape", [there.outputs[0], back]).outputs[0]
        relu.set_input(0, graph.add_node("Neg", [again]).outputs[0])

    def add_work(graph: Graph) -> None:
        tanh = only(graph, "Tanh")
        zero = graph.add_constant("zero", np.float32(0))
        held = tanh.inputs[0]
        for _ in range(6):
            held = graph.add_node("Add", [graph.add_node("Abs", [held]).outputs[0], zero]).outputs[
                0
            ]
        tanh.set_input(0, held)

    def drop_work(graph: Graph) -> None:
        relu = only(graph, "Relu")
        only(graph, "Tanh").set_input(0, relu.outputs[0])
        for node in reversed(graph.nodes("Abs", "Add")):
            graph.remove(node)

    done = bench()
    done.run(change(add_work), change(part), change(drop_work))
    assert [r.status for r in done.runner.records] == ["changed", "rolled back", "changed"]
    assert done.runner.notices[0].code == "G304"
