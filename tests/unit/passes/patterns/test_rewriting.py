"""What rules write, what they refuse and why, and that their cost grows with the graph alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.patterns import Const, Match, Number, Operators, Rule, Var, maybe, op, rewrite
from graphopt.passes.patterns.search import State
from graphopt.testing import assert_same_outputs, context, graph, random_feeds
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.patterns import Term

TOLERANCE = 1e-6
x, y = Var("x"), Var("y")
SIGMOID = Rule("sigmoid", 1 / (1 + op.Exp(-x)), op.Sigmoid(x), because="one operator for four")
SPELLED = "n = Neg(x)  e = Exp(n)  p = Add(e, one)  [last] y = Reciprocal(p)"


def model(body: str, outputs: str = "float[N,4] y", **options: Any) -> Graph:
    text = f"""m (float[N,4] x) => ({outputs})
        <float one={{1}}, float half={{0.5}}, float[4] row={{1,2,3,4}}> {{ {body} }}"""
    return graph(text, **options)


def applied(before: Graph, *rules: Rule, modified: bool = True) -> tuple[Graph, dict[str, str]]:
    """Apply the rules, compare the outputs, and apply them again."""
    after, noted = before.copy(), context()
    assert rewrite(after, noted, rules).modified is modified
    ir.verify(after)
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)
    if modified:
        assert ir.to_text(after) != ir.to_text(before)
    else:
        assert ir.structural_hash(after) == ir.structural_hash(before)
    return after, noted.reasons


def ops(found: Graph) -> list[str]:
    return [n.op for n in found.nodes()]


def test_a_replacement_takes_the_name_the_value_and_its_type() -> None:
    after, reasons = applied(model(SPELLED), SIGMOID)
    (node,) = after.nodes()
    assert (node.op, node.name, node.outputs[0].name) == ("Sigmoid", "last", "y")
    assert (node.outputs[0].dtype, node.outputs[0].shape) == (DType.FLOAT, ("N", 4))
    assert reasons == {"last": "one operator for four"}
    assert {v.name for v in after.initializers} == {"half", "row"}


def test_what_the_exporter_noted_stays() -> None:
    before = model(SPELLED)
    node = before.nodes("Reciprocal")[0]
    assert node.source is not None
    node.source.doc_string = "line 7"
    after, _ = applied(before, SIGMOID)
    again = ir.from_bytes(ir.to_bytes(after))
    source = again.nodes("Sigmoid")[0].source
    assert source is not None
    assert source.doc_string == "line 7"


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (f"{SPELLED} z = Abs(e)", "float[N,4] y, float[N,4] z", "`z` reads `e` inside it too"),
        (SPELLED, "float[N,4] y, float[N,4] p", "`p` inside it is an output of the graph"),
        (
            f"{SPELLED} b = Cast<to=9>(half) z = If(b) <then_branch = t () => (float[A,4] r) "
            "{ r = Abs(p) }, else_branch = f () => (float[B,4] s) { s = Neg(y) }>",
            "float[N,4] y, float[C,4] z",
            "`r` reads `p` inside it too",
        ),
    ],
)
def test_what_somebody_else_needs_stays(body: str, outputs: str, reason: str) -> None:
    _, reasons = applied(model(body, outputs), SIGMOID, modified=False)
    assert reasons == {"last": reason}


def test_what_an_inner_graph_returns_stays() -> None:
    before = model(
        f"{SPELLED} b = Cast<to=9>(half) z = If(b) <then_branch = t () => (float[A,4] r) "
        "{ r = Abs(x) }, else_branch = f () => (float[B,4] s) { s = Neg(x) }>",
        "float[N,4] y, float[C,4] z",
    )
    inner = before.nodes("If")[0].subgraphs[0]
    inner.set_outputs([before.value("p")])
    noted = context()
    assert not rewrite(before, noted, [SIGMOID]).modified
    assert noted.reasons == {"last": "an inner graph returns `p`"}


def test_a_check_refuses_with_its_reason() -> None:
    def check(match: Match) -> str | None:
        return f"`{match['x'].name}` is float" if match["x"].dtype is DType.FLOAT else None

    rule = Rule("sigmoid", SIGMOID.pattern, SIGMOID.replacement, check)
    _, reasons = applied(model(SPELLED), rule, modified=False)
    assert reasons == {"last": "`x` is float"}


def test_a_rule_that_refuses_leaves_the_place_to_the_next() -> None:
    never = Rule("sigmoid", SIGMOID.pattern, op.Relu(x), lambda match: "never")
    after, reasons = applied(model(SPELLED), never, SIGMOID)
    assert ops(after) == ["Sigmoid"]
    assert reasons == {"last": "one operator for four"}


@pytest.mark.parametrize(
    ("body", "rule", "wanted"),
    [
        ("a=Add(x,row) y=Exp(a)", Rule("r", op.Exp(x + y), op.Exp(x) * op.Exp(y)), "Exp Exp Mul"),
        ("a=Neg(x) y=Neg(a)", Rule("r", op.Neg(-x), x), "Identity"),
        ("a=Neg(x) b=Neg(a) y=Abs(b)", Rule("r", op.Neg(-x), x), "Abs"),
        ("y=Abs(x)", Rule("r", maybe(op.Neg(op.Abs(x))), op.Max(x, -x)), "Neg Max"),
        ("y=Neg(x)", Rule("r", -x, (x - 2.5) * -1 - 2.5), "Add Neg Add"),
        ("y=Neg(x)", Rule("r", -x, lambda match: op.Mul(x, -1.0)), "Mul"),
        ("y=Neg(x)", Rule("r", -x, lambda match: op.Mul(x, -1.0) * 1.0), "Mul"),
        ("y=Abs(x)", Rule("r", op.Abs(x), lambda match: op.Max(x, -1 * x) + 0.0), "Neg Max"),
        ("a=Neg(x) y=Neg(a)", Rule("r", op.Neg(-x), lambda match: x * 1.0), "Identity"),
        ("y=Mul(x,x)", Rule("r", x**2, op.Abs(x) ** 2), "Abs Mul"),
        ("y=Mul(x,row)", Rule("r", x * Const("w"), lambda m: x / (1 / m.array("w"))), "Div"),
        ("a=Neg(x) y=Mul(a,half)", Rule("r", -x * Number("w"),
                                        lambda m: x * -0.5 * m.number("w") * 2), "Mul"),
        ("a=Relu(x) y=Exp(a)", Rule("r", op.Exp(op.Relu(x).named("n")),
                                    lambda m: op.Exp(op.Max(m.node("n") and x, 0.0))), "Max Exp"),
        ("y=Clip(x,,half)", Rule("r", op.Clip(x, None, y), op.Min(x, y)), "Min"),
        ("y=Min(x,half)", Rule("r", op.Min(x, 0.5), op.Clip(x, None, 0.5)), "Clip"),
    ],
)  # fmt: skip
def test_what_is_written(body: str, rule: Rule, wanted: str) -> None:
    after, _ = applied(model(body), rule)
    assert " ".join(ops(after)) == wanted
    assert all(v.dtype is not None and v.shape is not None for v in after.values())
    assert len({n.label for n in after.nodes()}) == len(after.nodes())


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("y=Mul(x,half)", Rule("r", x * Number("w"), lambda m: x * m.number("w"))),
        ("y=Mul(half,x)", Rule("r", x * 0.5, op.Mul(x, 0.5))),
        ("a=Neg(x) y=Exp(a)", Rule("r", op.Exp(-x), op.Exp(-x))),
        ("y=Add(x,row)", Rule("r", op.Add(x, y), x + y)),
    ],
)
def test_what_would_be_written_as_it_is_stays(body: str, rule: Rule) -> None:
    applied(model(body), rule, modified=False)


def test_another_spelling_or_attribute_is_written() -> None:
    after, _ = applied(model("y=Div(x,half)"), Rule("r", x * 2.0, x * 2.0))
    assert ops(after) == ["Mul"]
    after = model("y=Softmax<axis=1>(x)")
    rule = Rule("r", op.Softmax(x, axis=1), op.Softmax(x))
    assert rewrite(after, context(), [rule]).modified
    assert not rewrite(after, context(), [rule]).modified


INNER = (
    "c = Abs(x) b = Cast<to=9>(half) y = If(b) <then_branch = t () => (float[A,4] r) "
    "{ n = Neg(c)  e = Exp(n)  p = Add(e, one)  r = Reciprocal(p) }, "
    "else_branch = f () => (float[B,4] s) { s = Neg(c) }>"
)


def test_inner_graphs_are_rewritten_each_for_itself() -> None:
    after, reasons = applied(model(INNER, "float[C,4] y"), SIGMOID)
    branch, other = after.nodes("If")[0].subgraphs
    assert ops(branch) == ["Sigmoid"]
    assert branch.outputs[0].name == "r"
    assert ops(other) == ["Neg"]
    assert list(reasons.values()) == ["one operator for four"]
    assert not rewrite(after, context(), [SIGMOID]).modified


def test_a_pattern_does_not_cross_levels() -> None:
    across = INNER.replace("n = Neg(c)  e = Exp(n)  p = Add(e, one)  ", "").replace(
        "c = Abs(x)", "n = Neg(x)  e = Exp(n)  c = Add(e, one)"
    ).replace("Reciprocal(p)", "Reciprocal(c)")  # fmt: skip
    applied(model(across, "float[C,4] y"), SIGMOID, modified=False)


def test_the_body_of_a_loop_is_rewritten() -> None:
    body = (
        "three = Constant<value_int=3>() y = Loop(three, , x) <body = b (int64 i, bool go, "
        "float[D,4] s) => (bool on, float[E,4] r) { on = Identity(go) n = Neg(s) e = Exp(n) "
        "p = Add(e, one) r = Reciprocal(p) }>"
    )
    after, _ = applied(model(body, "float[F,4] y"), SIGMOID)
    assert ops(after.nodes("Loop")[0].subgraphs[0]) == ["Identity", "Sigmoid"]


def test_a_function_may_make_the_value_itself() -> None:
    def make(match: Match) -> ir.Value:
        return match.graph.add_node("Abs", [match["x"]], ["made"]).outputs[0]

    after, _ = applied(model("a=Neg(x) y=Abs(a)"), Rule("r", op.Abs(-x), make))
    assert ops(after) == ["Abs"]
    assert after.outputs[0].name == "y"


def test_a_value_is_there_only_with_its_optional_operator() -> None:
    def check(match: Match) -> str:
        row = match.get("row")
        return "bare" if row is None else f"with {row.name}"

    rule = Rule("r", op.Relu(maybe(x + Const("row"))), x, check)
    for body, wanted in (("y=Relu(x)", "bare"), ("a=Add(row,x) y=Relu(a)", "with row")):
        _, reasons = applied(model(body), rule, modified=False)
        assert set(reasons.values()) == {wanted}


def test_another_domain_is_imported() -> None:
    microsoft = Operators("com.microsoft")
    after, _ = applied(model("s=Sigmoid(x) y=Mul(x,s)"),
                       Rule("r", x * op.Sigmoid(x), microsoft.QuickGelu(x, alpha=1.0)))  # fmt: skip
    assert after.opsets["com.microsoft"] == 1
    assert after.nodes()[0].domain == "com.microsoft"


def test_a_term_tells_whether_it_fits() -> None:
    made = model(f"{SPELLED} z = Abs(p)", "float[N,4] y, float[N,4] z")
    assert SIGMOID.pattern.fits(made.nodes("Reciprocal")[0])
    assert not SIGMOID.pattern.fits(made.nodes("Abs")[0])


def test_alternatives_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="cannot have Either"):
        rewrite(model("y=Neg(x)"), context(), [Rule("r", -x, op.Abs(x | y))])


def test_the_longest_form_is_taken_once() -> None:
    body = "a=Relu(x) b=Relu(a) c=Relu(b) y=Relu(c)"
    twice = Rule("pair", op.Relu(op.Relu(x)), op.Relu(x))
    noted, after = context(), model(body)
    result = rewrite(after, noted, [twice])
    assert (ops(after), result.notes) == (["Relu", "Relu"], ("2 pairs replaced",))


def test_constants_of_nodes_go_with_their_reader() -> None:
    body = "k=Constant<value_float=1.0>() n=Neg(x) e=Exp(n) p=Add(e,k) y=Reciprocal(p)"
    assert ops(applied(model(body), SIGMOID)[0]) == ["Sigmoid"]


@pytest.mark.parametrize("kind", ["double", "float16", "bfloat16"])
def test_numbers_get_the_type_of_their_neighbour(kind: str) -> None:
    after = graph(f"m ({kind}[N] x) => ({kind}[N] y) {{ y = Neg(x) }}")
    rewrite(after, context(), [Rule("r", -x, x * -1.0 + 0.5)])
    ir.verify(after)
    assert {v.dtype for v in after.initializers} == {after.inputs[0].dtype}


def looked_at(blocks: int, monkeypatch: pytest.MonkeyPatch, body: str, rule: Rule) -> int:
    """Return how many operators are looked at in a graph of so many blocks."""
    lines = [body.format(i=i, before=f"y{i - 1}" if i else "x") for i in range(blocks)]
    made = model(" ".join([*lines, f"y = Identity(y{blocks - 1})"]))
    count, maker = 0, State.maker

    def counted(self: State, *args: Any) -> Any:
        nonlocal count
        count += 1
        return maker(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(State, "maker", counted)
        rewrite(made, context(), [rule])
    return count


CHAIN = " ".join(
    ["a{i}=Mul({before},half)", "b{i}=Exp(a{i})", "c{i}=Add(b{i},one)", "y{i}=Mul(c{i},c{i})"]
)


@pytest.mark.parametrize(
    "pattern",
    [
        SIGMOID.pattern,
        0.5 * x * (1 + op.Exp(x)),
        x * y * op.Exp(x) * 3,
        x**4 + 2 * x**2 * y + y**2,
        op.Mul(maybe(op.Exp(x) + 1), maybe(y * Const("k"))),
    ],
)
def test_cost_grows_linearly_with_the_graph(pattern: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule("r", pattern, op.Relu(x))
    few, twice, many = (looked_at(n, monkeypatch, CHAIN, rule) for n in (20, 40, 160))
    assert twice - few <= 20 * few / 10
    assert many - twice == 6 * (twice - few)  # every block costs the same


def test_a_rule_whose_operators_are_absent_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule("r", x * op.Tanh(op.Softplus(x)), op.Mish(x))
    assert looked_at(10, monkeypatch, CHAIN, rule) == 0


def test_the_same_graph_gives_the_same_text() -> None:
    texts = set()
    for _ in range(3):
        after = model(SPELLED + " u = Neg(x) v = Exp(u) w = Add(one, v) z = Div(one, w)",
                      "float[N,4] y, float[N,4] z")  # fmt: skip
        rewrite(after, context(), [SIGMOID])
        texts.add(ir.to_text(after))
    assert len(texts) == 1
    assert np.char.count(texts.pop(), "Sigmoid") == 2
