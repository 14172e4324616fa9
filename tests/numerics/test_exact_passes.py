"""Exact passes on random parameters: outputs within a stated bound, and rest on a second run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.simplify.eliminate_dead import EliminateDead
from graphopt.passes.simplify.eliminate_identity import EliminateIdentity
from graphopt.passes.simplify.fix_initializers import FixInitializers
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.passes.simplify.fuse_conv_batchnorm import FuseConvBatchnorm
from graphopt.passes.simplify.upgrade_opset import UpgradeOpset
from graphopt.runtime import open_session
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass

FUSION_TOLERANCE = 2e-5
"""Of the largest output: folding rounds each weight once more, in float32."""

EXACT_PASSES: tuple[Pass, ...] = (
    FixInitializers(),
    UpgradeOpset(),
    FoldConstants(),
    EliminateIdentity(),
    FuseConvBatchnorm(),
    EliminateDead(),
)


def normal(random: np.random.Generator, *shape: int) -> Any:
    return random.standard_normal(shape).astype(np.float32)


def batch_norm(random: np.random.Generator, channels: int) -> dict[str, Any]:
    """Return parameters as training leaves them, small variances included."""
    return {
        "g": normal(random, channels),
        "b": normal(random, channels),
        "m": normal(random, channels),
        "v": random.uniform(1e-3, 4.0, channels).astype(np.float32),
    }


def check_same(before: Graph, step: Pass, *, count: int = 2) -> Graph:
    """Run the pass; compare on random feeds; run it again."""
    after = before.copy()
    assert step.run(after, context()).modified
    ir.verify(after)
    feeds = random_feeds(before, count=count)
    largest = max(float(np.abs(o).max()) for f in feeds for o in open_session(before).run(f))
    bound = FUSION_TOLERANCE * max(largest, 1.0)
    assert_same_outputs(before, after, feeds, rtol=0.0, atol=bound)
    settled = ir.structural_hash(after)
    assert not step.run(after, context()).modified
    assert ir.structural_hash(after) == settled
    return after


@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    bias=st.booleans(),
    rank=st.integers(1, 3),
    transposed=st.booleans(),
    epsilon=st.sampled_from([0.0, 1e-5, 1e-3]),
)
@settings(max_examples=60, deadline=None)
def test_fusing_batch_norm_into_any_convolution(
    seed: int,
    groups: int,
    inputs: int,
    outputs: int,
    bias: bool,
    rank: int,
    transposed: bool,
    epsilon: float,
) -> None:
    random = np.random.default_rng(seed)
    c_in, c_out = groups * inputs, groups * outputs
    kernel = [2] * rank
    shape = [c_in, outputs, *kernel] if transposed else [c_out, inputs, *kernel]
    op = "ConvTranspose" if transposed else "Conv"
    spatial, free = ", ".join(["4"] * rank), ", ".join(f"S{i}" for i in range(rank))
    text = f"""m (float[N, {c_in}, {spatial}] x) => (float[N, {c_out}, {free}] y)
        <float{shape} w, float[{c_out}] c, float[{c_out}] g, float[{c_out}] b,
         float[{c_out}] m, float[{c_out}] v> {{
      a = {op} <group = {groups}> (x, w{", c" if bias else ""})
      y = BatchNormalization <epsilon = {epsilon}> (a, g, b, m, v) }}"""
    made = {"w": normal(random, *shape), "c": normal(random, c_out)}
    after = check_same(graph(text, **made, **batch_norm(random, c_out)), FuseConvBatchnorm())
    assert [n.op for n in after.nodes()] == [op]


@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    transposed=st.booleans(),
    beta=st.sampled_from([0.0, 0.5, 1.0, -2.0]),
    alpha=st.sampled_from([1.0, 0.25]),
    bias=st.sampled_from(["", "N", "1,N", "1", "scalar"]),
)
@settings(max_examples=60, deadline=None)
def test_fusing_batch_norm_into_any_gemm(
    seed: int, rows: int, columns: int, transposed: bool, beta: float, alpha: float, bias: str
) -> None:
    random = np.random.default_rng(seed)
    shape = (columns, rows) if transposed else (rows, columns)
    operands = "x, w, c" if bias else "x, w"
    sizes = {"N": f"[{columns}]", "1,N": f"[1, {columns}]", "1": "[1]", "scalar": "", "": "[1]"}
    text = f"""m (float[M, {rows}] x) => (float[M, {columns}] y)
        <float{list(shape)} w, float{sizes[bias]} c, float[{columns}] g, float[{columns}] b,
         float[{columns}] m, float[{columns}] v> {{
      a = Gemm <transB = {int(transposed)}, beta = {beta}, alpha = {alpha}> ({operands})
      y = BatchNormalization <epsilon = 0.001> (a, g, b, m, v) }}"""
    dims = {"N": (columns,), "1,N": (1, columns), "1": (1,), "scalar": (), "": (1,)}[bias]
    made = {"w": normal(random, *shape), "c": normal(random, *dims)}
    check_same(graph(text, **made, **batch_norm(random, columns)), FuseConvBatchnorm())


@given(seed=st.integers(0, 2**31), size=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_folding_arithmetic_on_constants(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    text = f"""m (float[N, {size}] x) => (float[N, {size}] y) <float[{size}] a, float[{size}] b> {{
      c = Mul (a, b)
      d = Tanh (c)
      e = Identity (d)
      f = Add (x, e)
      s = Shape (x)
      y = Reshape (f, s) }}"""
    made = {"a": normal(random, size), "b": normal(random, size)}
    after = check_same(graph(text, **made), FoldConstants())
    assert [n.op for n in after.nodes()] == ["Add", "Shape", "Reshape"]


@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 5),
    middle=st.integers(1, 9),
    last=st.integers(1, 18),
    bias=st.booleans(),
    relu=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_padding_thin_convolutions_changes_no_bit(
    seed: int, channels: int, middle: int, last: int, bias: bool, relu: bool
) -> None:
    random = np.random.default_rng(seed)
    text = f"""m (float[1, {channels}, 5, 5] x) => (float[1, {last}, 5, 5] y)
        <float[{middle}, {channels}, 3, 3] w1, float[{middle}] b1, float[{last}, {middle}, 1, 1] w2,
         float[{last}] b2> {{
      a = Conv <pads = [1, 1, 1, 1]> (x, w1{", b1" if bias else ""})
      r = {"Relu" if relu else "Sigmoid"} (a)
      y = Conv (r, w2{", b2" if bias else ""}) }}"""
    before = graph(
        text,
        w1=normal(random, middle, channels, 3, 3),
        b1=normal(random, middle),
        w2=normal(random, last, middle, 1, 1),
        b2=normal(random, last),
    )
    feeds = random_feeds(before, count=2, seed=seed % 1000)
    thin, padded = before.copy(), before.copy()
    for made, align in ((thin, False), (padded, True)):
        asked = context(data=feeds, model=before)
        InsertQdq(placement="integer", align=align).run(made, asked)
        ir.verify(made)
    assert_same_outputs(thin, padded, feeds, rtol=0.0, atol=0.0)


SHARED = {
    "cifar10_resnet20_unfolded_bn": {"input": (2, 3, 32, 32)},
    "imagenet_proxyless_w025_r112_unfolded_bn": {"input": (1, 3, 112, 112)},
    "kws_dscnn_bn": {"input": (2, 1, 49, 10)},
    "mnist_cntk": {"Input3": (1, 1, 28, 28)},
    "face_rfb320": {"input": (1, 3, 240, 320)},
    "superres_espcn_x3_y": {"_ppp5_expanded": (1, 1, 24, 32)},
    "dtln_model_2": {"input_4": (1, 1, 512), "input_5": (1, 2, 128, 2)},
}


@pytest.mark.parametrize("name", SHARED)
def test_all_exact_passes_in_a_row_on_real_models(shared: Any, name: str) -> None:
    before = ir.load(shared / "models" / f"{name}.onnx")
    random = np.random.default_rng(0)
    feeds = [{k: normal(random, *s) for k, s in SHARED[name].items()} for _ in range(2)]
    after = before.copy()
    for step in EXACT_PASSES:
        step.run(after, context())
        after.sort()
        ir.verify(after)
    largest = max(float(np.abs(o).max()) for f in feeds for o in open_session(before).run(f))
    assert_same_outputs(before, after, feeds, rtol=0.0, atol=FUSION_TOLERANCE * max(largest, 1.0))
    assert len(after.nodes()) <= len(before.nodes())
    assert not after.nodes("BatchNormalization")
    settled = ir.structural_hash(after)
    for step in EXACT_PASSES:
        assert not step.run(after, context()).modified, step.name
    assert ir.structural_hash(after) == settled
