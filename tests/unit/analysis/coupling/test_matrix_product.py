"""Matrix products: what they couple, and that pruning them changes nothing that the oracle sees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling import Axis, Coupling, couple
from graphopt.passes.prune.removal.oracle import disagreement
from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import (
    RULES,
    assert_oracle,
    coupled,
    prune_at_random,
    reasons,
)

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'


def _sizes(found: Coupling) -> dict[str, int]:
    return {group.name: group.size for group in found.groups}


# -- Gemm ----------------------------------------------------------------------------------

GEMM = """
g (float[LEFT] x) => (float[4,2] y)
<float[FIRST] w1, float[SECOND] w2, float[BIAS] b1, float[2] b2> {
  a = Gemm<transA = TA, transB = TB, alpha = 0.5>(x, w1, b1)
  y = Gemm<transB = TB, beta = 2.0>(a, w2, b2)
}
"""


@pytest.mark.parametrize("bias", ["8", "1,8", "4,8", "4,1", "1", "1,1"])
@pytest.mark.parametrize(("of_left", "of_right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_however_transposed_and_whatever_its_bias(
    of_left: int, of_right: int, bias: str
) -> None:
    shapes = {"LEFT": ("4,3", "3,4")[of_left], "FIRST": ("3,8", "8,3")[of_right], "BIAS": bias}
    shapes["SECOND"] = ("8,2", "2,8")[of_right]
    text = GEMM.replace("TA", str(of_left)).replace("TB", str(of_right))
    for name, shape in shapes.items():
        text = text.replace(name, shape)
    found = assert_oracle(text, tolerance=1e-5)
    assert _sizes(found) == {"w1": 8}
    (producer,) = (p for p in found.groups[0].producers if p.weight.value.name == "w1")
    assert (producer.bias is not None) == (bias.endswith("8"))
    (consumer,) = found.groups[0].consumers
    assert consumer.weight == Axis(consumer.node.inputs[1], of_right)  # type: ignore[arg-type]


def test_gemm_may_make_rows_of_a_weight() -> None:
    text = """
    g (float[3,5] x) => (float[2,5] y) <float[8,3] w1, float[8,1] b1, float[2,8] w2> {
      a = Gemm(w1, x, b1)
      y = MatMul(w2, a)
    }
    """
    found = assert_oracle(text)
    (group,) = found.groups
    assert [(p.weight.position, p.bias and p.bias.position) for p in group.producers] == [(0, 0)]
    assert [c.weight and c.weight.position for c in group.consumers] == [1]


# -- MatMul --------------------------------------------------------------------------------

ORACLE = {
    "a chain": """
    g (float[2,4,3] x) => (float[2,4,2] y)
    <float[3,8] w1, float[8] b1, float[8,6] w2, float[6,2] w3> {
      a = MatMul(x, w1)
      b = Add(a, b1)
      c = Relu(b)
      d = MatMul(c, w2)
      e = Sigmoid(d)
      y = MatMul(e, w3)
    }""",
    "stacked weights": """
    g (float[2,4,3] x) => (float[2,4,2] y) <float[2,3,8] w1, float[1,8,6] w2, float[2,6,2] w3> {
      a = MatMul(x, w1)
      b = MatMul(a, w2)
      y = MatMul(b, w3)
    }""",
    "vectors": """
    g (float[3] x) => (float y) <float[3,8] w1, float[8,6] w2, float[6] w3> {
      a = MatMul(x, w1)
      b = MatMul(a, w2)
      y = MatMul(b, w3)
    }""",
    "a matrix and a vector": """
    g (float[4,3] x) => (float[4] y) <float[3,8] w1, float[8] w2> {
      a = MatMul(x, w1)
      y = MatMul(a, w2)
    }""",
    "a weight on the left": """
    g (float[2,3,5] x) => (float[2,2,5] y) <float[8,3] w1, float[2,8] w2> {
      a = MatMul(w1, x)
      y = MatMul(w2, a)
    }""",
    "two activations": """
    g (float[2,4,3] x, float[2,5,3] z) => (float[2,4,5] y) <float[3,8] w1, float[3,8] w2> {
      a = MatMul(x, w1)
      b = MatMul(z, w2)
      c = Transpose<perm = [0, 2, 1]>(b)
      y = MatMul(a, c)
    }""",
    "an activation times itself": """
    g (float[3,3] x) => (float[2,2] y) <float[3,8] right, float[8,3] left, float[2,8] w1,
     float[8,2] w2> {
      a = MatMul(x, right)
      b = MatMul(left, a)
      c = MatMul(b, b)
      d = MatMul(w1, c)
      y = MatMul(d, w2)
    }""",
    "products that are fused": f"""
    {HEADER}
    g (float[4,3] x) => (float[2,4] y)
    <float[8,3] w1, float[8,6] w2, float[6] b2, float[2,6] w3, float[4,8] a, float[4,6] b> {{
      a = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(x, w1)
      b = com.microsoft.FusedGemm<activation = "Relu">(a, w2, b2)
      y = com.microsoft.FusedMatMul<transB = 1>(w3, b)
    }}""",
    "batches that are turned": f"""
    {HEADER}
    g (float[4,2,3] x, float[5,2,3] z) => (float[2,4,5] y)
    <float[3,8] w1, float[3,8] w2> {{
      a = MatMul(x, w1)
      b = MatMul(z, w2)
      y = com.microsoft.FusedMatMul<transBatchA = 1, transBatchB = 1, transB = 1>(a, b)
    }}""",
    "attention": """
    g (float[2,5,6] x) => (float[2,5,6] y)
    <float[6,24] wq, float[6,24] wk, float[6,24] wv, float[24,6] wo, float[24] bq,
     int64[4] apart = {2, 5, 4, 6}, int64[3] joined = {2, 5, 24}> {
      q = MatMul(x, wq)
      qb = Add(q, bq)
      k = MatMul(x, wk)
      v = MatMul(x, wv)
      q4 = Reshape(qb, apart)
      k4 = Reshape(k, apart)
      v4 = Reshape(v, apart)
      qt = Transpose<perm = [0, 2, 1, 3]>(q4)
      kt = Transpose<perm = [0, 2, 3, 1]>(k4)
      vt = Transpose<perm = [0, 2, 1, 3]>(v4)
      s = MatMul(qt, kt)
      p = Softmax<axis = -1>(s)
      o = MatMul(p, vt)
      ot = Transpose<perm = [0, 2, 1, 3]>(o)
      oj = Reshape(ot, joined)
      y = MatMul(oj, wo)
    }""",
}


@pytest.mark.parametrize("text", ORACLE.values(), ids=ORACLE.keys())
def test_pruning_changes_nothing_that_the_oracle_sees(text: str) -> None:
    for seed in range(3):
        assert_oracle(text, fraction=0.2 + 0.25 * seed, seed=seed, tolerance=1e-5)


def test_attention_loses_whole_heads_or_features_of_every_head() -> None:
    made, found = coupled(ORACLE["attention"])
    (heads,) = found.groups
    assert heads.size == 4
    assert {a.value.name for a in heads.axes} >= {"wq", "wk", "wv", "wo", "bq", "s", "p", "o"}
    features = couple(made, RULES, prefer_heads=False)
    assert {group.size for group in features.groups} == {6}
    assert len(features.groups) == 2, "queries with keys, values with what reads them"


def test_heads_that_share_keys_and_values_are_heads_too() -> None:
    text = """
    g (float[2,5,6] x) => (float[2,5,6] y)
    <float[6,24] wq, float[6,6] wk, float[6,6] wv, float[24,6] wo, int64[1] one = {1},
     int64[4] apart = {2, 5, 4, 6}, int64[3] joined = {2, 5, 24}> {
      q = MatMul(x, wq)
      k = MatMul(x, wk)
      v = MatMul(x, wv)
      q4 = Reshape(q, apart)
      qt = Transpose<perm = [0, 2, 1, 3]>(q4)
      kt = Transpose<perm = [0, 2, 1]>(k)
      k4 = Unsqueeze(kt, one)
      v4 = Unsqueeze(v, one)
      s = MatMul(qt, k4)
      p = Softmax<axis = -1>(s)
      o = MatMul(p, v4)
      ot = Transpose<perm = [0, 2, 1, 3]>(o)
      oj = Reshape(ot, joined)
      y = MatMul(oj, wo)
    }
    """
    found = assert_oracle(text)
    assert [(group.name, group.size) for group in found.groups] == [("wq", 4)]
    features = couple(coupled(text)[0], RULES, prefer_heads=False)
    assert sorted(group.size for group in features.groups) == [6, 6]


# -- FusedMatMul ---------------------------------------------------------------------------


@pytest.mark.parametrize(("swapped", "turned"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_operands_of_fused_products_are_read_as_onnxruntime_reads_them(
    swapped: int, turned: int
) -> None:
    # Sizes are all different, so a product that runs at all has been read right.
    left = {(0, 0): "2,4,8", (1, 0): "2,8,4", (0, 1): "4,2,8", (1, 1): "8,2,4"}[swapped, turned]
    right = {(0, 0): "2,8,5", (1, 0): "2,5,8", (0, 1): "8,2,5", (1, 1): "5,2,8"}[swapped, turned]
    flags = ", ".join(
        f"trans{'Batch' if batch else ''}{side} = {value}"
        for side in "AB"
        for batch, value in ((False, swapped), (True, turned))
    )
    made, found = coupled(f"""
    {HEADER}
    g (float[{left}] x, float[{right}] z) => (float[2,4,5] y) {{
      a = Relu(x)
      b = Relu(z)
      y = com.microsoft.FusedMatMul<{flags}>(a, b)
    }}
    """)
    (feed,) = random_feeds(made)
    assert run(made, feed)[0].shape == (2, 4, 5)
    assert "contradict" not in str(reasons(found))


# -- Einsum --------------------------------------------------------------------------------

EINSUM = {
    "a linear layer": ("4,3", "3,8", "bi,io->bo", "4,8", "8,2", "bo,oc->bc", "4,2"),
    "spaces, and an ellipsis": (
        *("2,4,3", "8,3", "...i, o i -> ...o", "2,4,8", "8,2", "...i,ij->...j", "2,4,2"),
    ),
    "the result implied": ("4,3", "3,8", "bi,ij", "4,8", "8,2", "bj,jk", "4,2"),
    "a weight first": ("4,3", "8,3", "bi,oi->ob", "8,4", "2,8", "cb,oc->ob", "2,4"),
    "a batch of weights": ("2,4,3", "2,3,8", "nbi,nio->nbo", "2,4,8", "2,8,5", "nbi,nio->nbo", ""),
}


@pytest.mark.parametrize("case", EINSUM.values(), ids=EINSUM.keys())
def test_einsum_with_weights(case: tuple[str, ...]) -> None:
    left, first, one, hidden, second, other, made = case
    made = made or "2,4,5"
    if one.startswith("bi,oi"):
        other = "ob,co->cb"
    text = f"""
    g (float[{left}] x) => (float[{made}] y) <float[{first}] w1, float[{second}] w2> {{
      a = Einsum<equation = "{one}">(x, w1)
      b = Relu(a)
      y = Einsum<equation = "{other}">(b, w2)
    }}
    """
    model, found = coupled(text)
    assert model.value("a").shape == tuple(int(size) for size in hidden.split(","))
    assert _sizes(found) == {"w1": 8}
    assert [c.weight is not None for c in found.groups[0].consumers] == [True]
    assert_oracle(text)


def test_einsum_attention() -> None:
    text = """
    g (float[2,5,6] x) => (float[2,5,6] y)
    <float[6,4,3] wq, float[6,4,3] wk, float[6,4,7] wv, float[4,7,6] wo> {
      q = Einsum<equation = "bti,ihd->bthd">(x, wq)
      k = Einsum<equation = "bti,ihd->bthd">(x, wk)
      v = Einsum<equation = "bti,ihd->bthd">(x, wv)
      s = Einsum<equation = "bqhd,bkhd->bhqk">(q, k)
      p = Softmax<axis = -1>(s)
      o = Einsum<equation = "bhqk,bkhd->bqhd">(p, v)
      y = Einsum<equation = "bqhd,hdo->bqo">(o, wo)
    }
    """
    found = assert_oracle(text)
    assert sorted(group.size for group in found.groups) == [3, 4, 7]


@pytest.mark.parametrize(
    ("equation", "made"),
    [("ii->i", "8"), ("ii->", ""), ("ij->", ""), ("ij->ji", "8,8"), ("ij->j", "8"), ("ij", "8,8")],
)
def test_einsum_of_one_operand(equation: str, made: str) -> None:
    shape = f"float[{made}]" if made else "float"
    text = f"""
    g (float[3,3] x) => (float y)
    <float[3,8] right, float[8,3] left> {{
      a = MatMul(x, right)
      b = MatMul(left, a)
      c = Einsum<equation = "{equation}">(b)
      d = Relu(c)
      y = Einsum<equation = "...->">(d)
    }}
    """.replace("...->", {"8": "i->", "": "->", "8,8": "ij->"}[made])
    assert shape
    found = assert_oracle(text)
    assert all(not consumer.weight for group in found.groups for consumer in group.consumers)


def test_einsum_of_three_operands() -> None:
    text = """
    g (float[4,3] x, float[4,3] z) => (float[4,2] y)
    <float[3,8] w1, float[3,6] w2, float[8,6,2] w3> {
      a = MatMul(x, w1)
      b = MatMul(z, w2)
      y = Einsum<equation = "bi,bj,ijo->bo">(a, b, w3)
    }
    """
    found = assert_oracle(text)
    assert _sizes(found) == {"w1": 8, "w2": 6}


# -- what is left alone --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "why"),
    [
        ("bi,io,oc->bc", "cannot be told apart"),
        ("bij,io->bo", "cannot be told apart"),
        ("b1,1o->bo", "cannot be told apart"),
        ("bi,ob->bo", "the sizes around Einsum `y` contradict each other"),
        ("bi,io->oo", "the labels around Einsum `y` contradict each other"),
    ],
)
def test_an_equation_that_makes_no_sense_freezes(equation: str, why: str) -> None:
    text = """
    g (float[4,3] x) => (float[4,2] y) <float[3,8] w1, float[8,2] w2> {
      a = MatMul(x, w1)
      y = Einsum<equation = "bi,io->bo">(a, w2)
    }
    """
    made = graph(text)
    ir.infer_shapes(made)
    assert made.nodes("Einsum")[0] is made.value("y").producer
    made.nodes("Einsum")[0].set_attribute("equation", equation)
    found = couple(made, RULES)
    assert not found.groups
    assert why in " ".join(reasons(found)["`w2` axis 0"])


def test_sizes_that_are_not_known_freeze_what_they_meet() -> None:
    made, found = coupled("""
    g (float[4,n] x, float[k,8] w) => (float[4,2] y) <float[8,6] w1, float[6,2] w2> {
      a = MatMul(x, w)
      b = MatMul(a, w1)
      y = MatMul(b, w2)
    }
    """)
    assert _sizes(found) == {"w1": 6}
    assert found.why(made.value("w1"), 0)


# -- any chain -----------------------------------------------------------------------------


@st.composite
def chains(draw: Any) -> str:
    """Return the text of a chain of products with weights on either side, however transposed."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    head = f"g (float[{rows},{columns}] x) => (float[2,3] y)"
    weights, lines, source = [], [], "x"
    for index in range(draw(st.integers(1, 5))):
        size, op = draw(st.integers(1, 5)), draw(st.sampled_from(["Gemm", "MatMul", "Einsum"]))
        turned, left = op != "MatMul" and draw(st.booleans()), draw(st.booleans())
        shape = (size, rows) if left else (columns, size)
        rows, columns = (size, columns) if left else (rows, size)
        shape = shape[::-1] if turned else shape
        weights.append(f"float[{shape[0]},{shape[1]}] w{index}")
        names = (f"w{index}", source) if left else (source, f"w{index}")
        flags = {
            "Gemm": f"<transA = {int(turned and left)}, transB = {int(turned and not left)}>",
            "MatMul": "",
            "Einsum": f'<equation = "{_equation(left, turned)}">',
        }[op]
        lines.append(f"t{index} = {op}{flags}({', '.join(names)})")
        source = f"t{index}"
    weights += [f"float[2,{rows}] first", f"float[{columns},3] last"]
    body = "\n  ".join([*lines, f"u = MatMul(first, {source})", "y = MatMul(u, last)"])
    return f"{head}\n<{', '.join(weights)}> {{\n  {body}\n}}"


def _equation(left: bool, turned: bool) -> str:
    weight = {(True, False): "ij", (True, True): "ji", (False, False): "jk", (False, True): "kj"}
    mine = weight[left, turned]
    return f"{mine},jk->ik" if left else f"ij,{mine}->ik"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains(), st.floats(0.1, 0.9), st.integers(0, 99))
def test_any_chain_of_products_satisfies_the_oracle(text: str, fraction: float, seed: int) -> None:
    pruned, silenced, _, found = prune_at_random(text, fraction, seed)
    assert all(group.is_exact for group in found.groups)
    ir.verify(pruned)
    for feed in random_feeds(pruned, seed=seed):
        expected = run(silenced, feed, optimize=False)
        assert disagreement(expected, run(pruned, feed, optimize=False)) <= 1e-5
