"""The measured networks: legal, runnable, fused as meant, and the same every time."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.cost.executed import executed_kernels
from graphopt.cost.profiling import bundle
from graphopt.cost.profiling.catalogue import micro_models
from graphopt.cost.profiling.execution import kernels_of
from graphopt.cost.profiling.nets import FAMILIES, Net, nets
from graphopt.cost.profiling.shapes import Shapes
from graphopt.ir import structural_hash, to_bytes, verify
from graphopt.runtime import open_session
from graphopt.runtime.device.timing import make_feeds
from graphopt.targets import builtin_targets, host_target

if TYPE_CHECKING:
    from graphopt.cost.profiling.builder import Builder
    from graphopt.cost.profiling.micro import Micro

MICRO = {micro.name: micro for micro in micro_models()}
FIRST_OF_CLASS = sorted(
    {(m.name.split("/")[0], m.precision): m.name for m in reversed(micro_models())}.values()
)


def _run(builder: Builder) -> list[np.ndarray]:
    verify(builder.graph)
    return open_session(builder.graph).run(make_feeds(builder.feeds))


def test_there_are_enough_of_every_kind() -> None:
    kinds = Counter(micro.name.split("/")[0] for micro in MICRO.values())
    assert len(MICRO) == sum(kinds.values()), "names are unique"
    for machine in ("x86", "arm"):
        measured = [m for m in MICRO.values() if m.machines in {"", machine}]
        assert len(measured) >= 250
        precisions = Counter(m.precision for m in measured)
        assert min(precisions.values()) >= 30
        assert len({m.name.split("/")[0] for m in measured if m.parallel}) >= 30


@pytest.mark.parametrize("name", FIRST_OF_CLASS)
def test_each_class_runs_and_its_values_stay_finite(name: str) -> None:
    for array in _run(MICRO[name].build(2)):
        assert np.isfinite(array).all()
        # Denormal numbers would be timed in place of the kernel.
        small = (np.abs(array) < 1e-30) & (array != 0)
        assert not small.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_network_runs(family: str) -> None:
    (output,) = _run(Net(family, "float32").build())
    assert np.isfinite(output).all()
    assert np.ptp(output) > 0


def _units(micro: Micro) -> tuple[Counter[str], Counter[str]]:
    """Return the kernels of a short and of a long chain."""
    found = []
    for count in (2, 5):
        kernels = executed_kernels(micro.build(count).graph, host_target())
        assert not isinstance(kernels, str)
        found.append(Counter(kernel.name for kernel in kernels))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("depthwise/float32/0", {"FusedConv": 1}),
        ("first/float32/0", {"FusedConv": 1, "GlobalAveragePool": 1, "ReorderOutput": 1}),
        ("Sigmoid/float32/0", {"Sigmoid": 1}),
        ("LayerNormalization/float32/0", {"LayerNormalization": 1}),
        ("LSTM/float32/0", {"LSTM": 1, "Squeeze": 1}),
        ("packed4/float32/0", {"MatMulNBits": 1}),
        ("attention/float32/0", {"MatMul": 2, "Softmax": 1}),
        ("quantize/u8s8/0", {"QuantizeLinear": 1, "DequantizeLinear": 1, "Erf": 1}),
        ("transpose/float32/0", {"Transpose": 1, "Reshape": 1}),
        ("Gather/float32/0", {"Gather": 1, "Add": 1}),
        ("odd-depthwise/float32/0", {"FusedConv": 1}),
        ("layout/float32/0", {"Transpose": 1, "Reshape": 1}),
        ("layout/u8s8/0", {"Transpose": 1, "Reshape": 1}),
        ("shuffle-last/u8s8/0", {"Transpose": 1, "Reshape": 2}),
        ("turn/float32/2", {"Transpose": 1, "Reshape": 1}),
        ("split/float32/0", {"Split": 1, "Concat": 1}),
        ("fire/float32/0", {"FusedConv": 3, "Concat": 1}),
        ("swish-behind/float32/0", {"Conv": 1, "QuickGelu": 1}),
        ("to-float/u8s8/1", {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Sub": 1}),
        ("tiny-reshape/float32/1", {"Squeeze": 1, "Unsqueeze": 1, "Relu": 2}),
        ("BatchNormalization/float32/0", {"BatchNormalization": 1}),
        ("Attention/float32/0", {"Attention": 1}),
        ("RMSNormalization/float32/0", {"RMSNormalization": 1}),
    ],
)
def test_a_longer_chain_has_more_of_the_unit_and_of_nothing_else(
    name: str, unit: dict[str, int]
) -> None:
    short, long = _units(MICRO[name])
    assert long - short == Counter({kernel: 3 * count for kernel, count in unit.items()})


def test_integer_chains_are_fused_where_the_target_wants_their_types() -> None:
    target = next(t for t in builtin_targets() if t.name == "x86-avx512-vnni")
    for name in ("conv", "pointwise", "depthwise", "linear", "vector", "Add", "Mul"):
        micro = MICRO[f"{name}/u8s8/0"]
        kernels = kernels_of(micro.build(3).graph, target)
        inner = [k for k in kernels if k.kind not in {"quantize", "movement"}]
        assert inner, name
        assert {k.dtype for k in inner} == {"int8"}, name


def test_the_same_network_is_built_every_time() -> None:
    for name in ("conv/u8s8/3", "attention/float32/0"):
        first, second = MICRO[name].build(3).graph, MICRO[name].build(3).graph
        assert structural_hash(first) == structural_hash(second)
        assert to_bytes(first) == to_bytes(second)
    assert [m.name for m in micro_models()] == list(MICRO)


def test_weights_of_different_units_differ() -> None:
    graph = MICRO["linear/float32/0"].build(3).graph
    weights = [v.array() for v in graph.initializers if len(v.shape or ()) == 2]
    assert len(weights) >= 3
    assert not np.array_equal(weights[0], weights[1])


def test_lengths_of_chains_are_measurable_and_do_not_fill_the_memory() -> None:
    for name in ("Tanh/float32/1", "conv/float32/0", "vector/float32/8"):
        first, last = MICRO[name].lengths()
        assert first == 1
        assert 2 <= last <= 9
    assert MICRO["Tanh/float32/1"].lengths()[1] == 9
    assert MICRO["tiny-Tanh/float32/0"].lengths()[1] == 33


def test_shapes_are_seeded_and_bounded() -> None:
    assert Shapes(1).spatial(20) == Shapes(1).spatial(20)
    assert Shapes(1).spatial(20) != Shapes(2).spatial(20)
    for shape in (*Shapes(0).spatial(60), *Shapes(0).pointwise(60), *Shapes(0).depthwise(60)):
        assert shape.macs <= 150_000_000
        assert shape.inputs % shape.groups == shape.outputs % shape.groups == 0
        assert min(shape.inputs, shape.outputs, shape.size) >= 1


def test_a_bundle_is_the_same_bytes_for_the_same_models() -> None:
    chosen = [bundle.Job("a", MICRO["Sigmoid/float32/0"], (1, 2))]
    archive = bundle.write_archive(chosen)
    assert archive == bundle.write_archive(chosen)
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        manifest = json.loads(content.read("manifest.json"))
        names = set(content.namelist())
    assert {"__main__.py", "graphopt/runtime/device/measure.py", "models/anchor.onnx"} <= names
    (job,) = manifest["jobs"]
    assert set(job["files"]) <= names
    assert job["feeds"]["x0"]["dtype"] == "float32"


def test_weights_pack_well() -> None:
    micro = MICRO["conv/float32/0"]
    raw = sum(len(to_bytes(micro.build(n).graph)) for n in (1, 3))
    packed = len(bundle.write_archive([bundle.Job("a", micro, (1, 3))]))
    alone = len(bundle.write_archive([]))
    assert packed - alone < raw / 10


def test_jobs_cover_all_models() -> None:
    found = bundle.jobs()
    assert len(found) == len(MICRO) + len(nets())
    assert len({job.name for job in found}) == len(found)
    assert all(len(job.counts) == (0 if job.is_net else 2) for job in found)
