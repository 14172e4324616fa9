"""Memory plans of graphs, checked tensor by tensor, and verdicts on what fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.cost import group_kernels
from graphopt.cost.memory import peak_memory
from graphopt.cost.planning import fit, plan_memory, sharing_of
from graphopt.ir import infer_shapes, load, parse
from graphopt.types import DType

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
BRANCHES = """
g (float[1,4,8,8] x) => (float[1,36,1,1] y)
{
  a = Concat<axis = 1>(x, x, x, x, x, x, x, x)
  b = Concat<axis = 2>(x, x, x, x, x, x, x, x)
  c = MaxPool<kernel_shape = [8, 8]>(a)
  d = AveragePool<kernel_shape = [64, 8]>(b)
  y = Concat<axis = 1>(c, d)
}"""
CHAIN = """
g (float[64] x) => (float[64] y)
{
  a = Transpose(x)
  b = Sigmoid(a)
  c = Reshape(b, s)
  d = Transpose(c)
  y = Tanh(d)
}""".replace("(float[64] y)", "(float[64] y) <int64[2] s = {8, 8}>", 1).replace(
    "float[64] y", "float[8,8] y"
)


def graph_of(text: str):
    graph = parse(HEADER + text)
    infer_shapes(graph)
    return graph


def assert_sound(plan) -> None:
    """No two buffers that are alive at the same step share an address; nothing sticks out."""
    for one in plan.buffers:
        assert 0 <= one.offset <= plan.peak_bytes - one.nbytes
        for other in plan.buffers:
            if one is other or one.last < other.first or other.last < one.first:
                continue
            apart = one.offset + one.nbytes <= other.offset
            assert (
                apart or other.offset + other.nbytes <= one.offset or not one.nbytes * other.nbytes
            )
    assert sorted(plan.order) == list(range(len(plan.steps)))
    assert plan.step_bytes <= plan.lower_bound <= plan.peak_bytes
    assert max(plan.pressure, default=0) == plan.lower_bound


def test_order_of_branches_lowers_the_peak(targets):
    graph = graph_of(BRANCHES)
    kept = plan_memory(graph, targets["cortex-m7"], reorder=False)
    free = plan_memory(graph, targets["cortex-m7"])
    # x, a and b; when a comes after d, x, a and d
    assert kept.peak_bytes == kept.given_bytes == 4 * 64 * (4 + 32 + 32)
    assert free.peak_bytes == 4 * 64 * (4 + 32) + 4 * 4
    assert free.reordered
    assert not kept.reordered
    assert free.is_optimal
    assert_sound(free)
    assert_sound(kept)


def test_given_order_agrees_with_the_estimate(net, targets):
    for dtype in (None, DType.INT8):
        graph = net((1, 3, 8, 8), dtype).conv(16).conv(4).conv(8, stride=2).done()
        infer_shapes(graph)
        for name in ("cortex-m7", "x86-avx512-vnni"):
            target = targets[name]
            found = peak_memory(graph, group_kernels(graph, target), sharing_of(target))
            plan = plan_memory(graph, target, reorder=False)
            assert plan.lower_bound == plan.given_bytes == found.nbytes
            assert plan.peak_at == found.at
            assert plan.peak_bytes == plan.lower_bound


def test_sharing_follows_the_runtime(targets):
    graph = graph_of(CHAIN)
    shared = plan_memory(graph, targets["cortex-m7"])
    alone = plan_memory(graph, targets["cortex-m7"], sharing="none")
    assert ("a", "b", "c") in shared.in_place
    assert ("d", "y") in shared.in_place
    assert alone.in_place == ()
    assert shared.peak_bytes == alone.peak_bytes == 4 * 64 * 2
    assert sharing_of(targets["x86-avx2"]) == "equal"
    assert sharing_of(targets["cortex-m4"]) == "smaller"


def test_quantizing_in_place_is_for_generated_code(targets):
    text = """
    g (float[100] x) => (int8[100] y) <float s = {0.1}, int8 z = {0}>
    {
      a = Exp(x)
      y = QuantizeLinear(a, s, z)
    }"""
    graph = graph_of(text)
    target = targets["cortex-m7"]
    assert ("a", "y") in plan_memory(graph, target, sharing="smaller").in_place
    assert plan_memory(graph, target, sharing="equal").in_place == ()


def test_alignment_rounds_offsets_and_sizes(targets):
    graph = graph_of("g (float[5] x) => (float[5] y) { a = Transpose(x) y = Transpose(a) }")
    plan = plan_memory(graph, targets["cortex-m7"], alignment=16)
    assert plan.peak_bytes == 2 * 32
    assert all(offset % 16 == 0 for offset in plan.offsets.values())


def test_peak_names_its_tensors(targets):
    plan = plan_memory(graph_of(BRANCHES), targets["cortex-m7"], reorder=False)
    names = [one.tensors for one in plan.alive_at(plan.peak_step)]
    assert sorted(names) == [("a",), ("b",), ("x",)]
    assert plan.peak_at == "Concat b"


def test_verdict_names_what_is_in_the_way(targets):
    plan = plan_memory(graph_of(BRANCHES), targets["cortex-m7"])
    limit = plan.peak_bytes - 1
    verdict = fit(plan, 1000, max_ram=limit, max_flash=999)
    assert not verdict.fits_ram
    assert not verdict.fits_flash
    assert not verdict.hopeless  # the Concat needs less by itself
    assert verdict.crowded[0][1] == plan.lower_bound
    assert verdict.largest[0][1] == 4 * 64 * 32
    assert fit(plan, 0, max_ram=plan.step_bytes - 1).hopeless
    roomy = fit(plan, 1000, max_ram=plan.peak_bytes, max_flash=1000)
    assert roomy.fits
    assert roomy.crowded == ()


def test_verdict_takes_the_limits_of_the_target(targets):
    plan = plan_memory(graph_of(BRANCHES), targets["cortex-m7"])
    memory = targets["cortex-m7"].memory
    verdict = fit(plan, 10, targets["cortex-m7"])
    assert (verdict.ram_limit, verdict.flash_limit) == (
        memory.ram_limit_bytes,
        memory.storage_limit_bytes,
    )
    assert verdict.fits
    assert fit(plan, 10).fits  # nobody set a limit


def test_graph_without_nodes_is_planned(targets):
    plan = plan_memory(graph_of("g (float[4] x) => (float[4] x) {}"), targets["cortex-m7"])
    assert plan.steps == ()
    assert plan.peak_at == ""


@settings(max_examples=25, deadline=None)
@given(widths=st.lists(st.integers(1, 12), min_size=2, max_size=6), cell=st.booleans())
def test_plans_of_random_networks_are_sound(net_type, all_targets, widths, cell):
    built = net_type((1, 3, 6, 6))
    ends = []
    for width in widths:
        built = built.conv(width, relu=cell)
        ends.append((built.end, built.shape))
    for end, shape in ends[:-1]:
        if shape == built.shape:
            built = built.add(end)
    graph = built.done()
    infer_shapes(graph)
    for name in ("cortex-m7", "x86-avx2"):
        plan = plan_memory(graph, all_targets[name], seconds=60)
        assert_sound(plan)
        assert plan.gap == 0


@pytest.mark.parametrize(
    ("model", "less"), [("dtln_model_2", 0.84), ("kws_dscnn_bn", 1.0), ("face_rfb320", 1.0)]
)
def test_real_models_reach_the_bound(shared, targets, model, less):
    graph = load(shared / "models" / f"{model}.onnx")
    plan = plan_memory(graph, targets["cortex-m7"], seconds=60)
    assert_sound(plan)
    assert plan.gap == 0
    assert plan.peak_bytes <= less * plan.given_bytes
