"""Simulated and executed integers of trained real models are the same to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program, quantized_tensors
from graphopt_torch.quantization import TrainableWeights

from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.runtime import open_session
from graphopt.runtime.census import census
from graphopt.testing import named_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from graphopt.ir import Graph

    Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SETTINGS = ("insert-qdq.placement=integer", "quantize-matmuls.mode=off")


def samples_of(shared: Path, name: str) -> Array:
    if name.startswith("kws"):
        with np.load(shared / "data" / "kws_mfcc.npz") as data:
            return np.asarray(data["calib_x"][:40])
    with np.load(shared / "data" / "cifar10_dev.npz") as data:
        images = data["calib_x"][:40].astype(np.float32) / 255
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    spread = (images - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(spread.transpose(0, 3, 1, 2))


def compiled(shared: Path, name: str, target: str, *, extra: Sequence[str] = ()) -> Graph:
    path = shared / "models" / f"{name}.onnx"
    feed = ir.load(path).feeds[0].name
    made = compile_model(
        path,
        target=target,
        data={feed: samples_of(shared, name)},
        overrides=(*SETTINGS, *extra),
        measure=False,
    )
    return made.graph


def trained(
    student: Program,
    weights: TrainableWeights,
    teacher: Program,
    feeds: Sequence[dict[str, torch.Tensor]],
    steps: int,
) -> list[float]:
    """Take steps of Adam on the mean squared error to the float outputs."""
    groups = [
        {"params": held, "lr": 1e-3 if kind.endswith("scales") else 1e-5}
        for kind, held in weights.groups().items()
        if held
    ]
    optimizer = torch.optim.Adam(groups)
    losses = []
    for step in range(steps):
        feed = feeds[step % len(feeds)]
        with torch.no_grad():
            wanted = teacher.run(feed)
        found = student.run(feed, values=weights.values())
        loss = torch.stack([(found[n] - wanted[n]).square().mean() for n in wanted]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def share_of_equal(
    graph: Graph, values: dict[str, torch.Tensor], feeds: Sequence[dict[str, Array]], target: str
) -> tuple[float, float]:
    """Return the share of equal elements of all integer tensors, and of the last one."""
    seen = graph.copy()
    names = list(quantized_tensors(seen))
    for name in names:
        zero = seen.value(name).producer.inputs[2]  # type: ignore[union-attr]
        seen.value(name).dtype = zero.dtype  # type: ignore[union-attr]
    seen.set_outputs([*seen.outputs, *(seen.value(n) for n in names)])
    session = open_session(seen, target=named_target(target))
    simulated = Program.of(graph)
    equal = dict.fromkeys(names, 0)
    total = dict.fromkeys(names, 0)
    for feed in feeds:
        executed = session.run(feed, names)
        tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
        with torch.no_grad():
            found = simulated.run(tensors, names, values=values)
        for name, wanted in zip(names, executed, strict=True):
            equal[name] += int((found[name].numpy().astype(np.int64) == wanted).sum())
            total[name] += wanted.size
    last = names[-1]
    return sum(equal.values()) / sum(total.values()), equal[last] / total[last]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param("cifar10_resnet20", "x86-avx512-vnni", marks=pytest.mark.slow),
        ("cifar10_resnet20", "x86-avx2"),
        ("kws_dscnn_bn", "x86-avx512-vnni"),
        ("kws_dscnn_bn", "arm"),
    ],
)
def test_trained_integers_are_those_of_the_runtime(shared: Path, name: str, target: str) -> None:
    graph = compiled(shared, name, target)
    original = ir.load(shared / "models" / f"{name}.onnx")
    before, kernels = graph.copy(), census(graph, named_target(target))
    student = Program.of(graph)
    weights = TrainableWeights.of(graph, student)
    assert weights.write(graph) == 0
    assert ir.structural_hash(graph) == ir.structural_hash(before)

    samples = samples_of(shared, name)
    feed = graph.feeds[0].name
    feeds = [{feed: samples[i : i + 1]} for i in range(4)]
    tensors = [{k: torch.from_numpy(v) for k, v in f.items()} for f in feeds]
    trained(student, weights, Program.of(original), tensors, steps=4)
    assert weights.write(graph) > 10

    with torch.no_grad():
        values = weights.values()
    everywhere, last = share_of_equal(graph, values, feeds[:2], target)
    assert everywhere >= 0.999
    assert last >= 0.999
    # What is written says the same as what was simulated, and nothing but constants is other.
    written = Program.of(graph).run(tensors[0])
    with torch.no_grad():
        simulated = student.run(tensors[0], values=values)
    assert all(torch.equal(written[n], simulated[n]) for n in written)
    assert_only_constants_differ(graph, before)
    after = census(graph, named_target(target))
    assert after.kernels == kernels.kernels
    assert [e.arithmetic for e in after.heavy] == [e.arithmetic for e in kernels.heavy]


def assert_only_constants_differ(graph: Graph, before: Graph) -> None:
    def told(one: Graph) -> list[Any]:
        return [
            (
                n.op,
                n.domain,
                n.name,
                [v.name if v else None for v in n.inputs],
                [v.name for v in n.outputs],
                {k: repr(n.attribute(k)) for k in n.attribute_names},
            )
            for n in one.nodes()
        ]

    assert told(graph) == told(before)
    for value in before.initializers:
        now = graph.value(value.name)
        assert (now.dtype, now.shape) == (value.dtype, value.shape)
        old = value.array()
        is_zero_point = any(
            i == 2 and n.op.endswith("Linear") for n, i in value.uses
        ) and old.dtype.kind in {"i", "u"}
        if is_zero_point or old.dtype == np.int64:
            assert np.array_equal(now.array(), old)


def test_scales_that_were_set_wrong_are_learned_again(shared: Path) -> None:
    graph = compiled(shared, "kws_dscnn_bn", "x86-avx512-vnni")
    student = Program.of(graph)
    weights = TrainableWeights.of(graph, student)
    teacher = Program.of(ir.load(shared / "models" / "kws_dscnn_bn.onnx"))
    batch = {graph.feeds[0].name: torch.from_numpy(samples_of(shared, "kws_dscnn_bn")[:8])}
    scales = weights.groups()["activation scales"]
    with torch.no_grad():
        wanted = teacher.run(batch)
        for parameter in scales:
            parameter -= 1.0  # most of each range is cut off
    optimizer = torch.optim.Adam(scales, lr=0.1)
    losses = []
    for _ in range(8):
        found = student.run(batch, values=weights.values())
        loss = torch.stack([(found[n] - wanted[n]).square().mean() for n in wanted]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_weights_of_x86_without_vnni_keep_their_pairs(shared: Path) -> None:
    from graphopt.analysis.saturation import pairs_exceed, reduction_rows

    graph = compiled(shared, "cifar10_resnet20", "x86-avx2")
    weights = TrainableWeights.of(graph, Program.of(graph))
    with torch.no_grad():
        for parameter in weights.groups()["weights"]:
            parameter.mul_(1.7)  # far beyond what 16 bits hold
    weights.write(graph)
    for node in graph.nodes("Conv", "Gemm"):
        stored = node.inputs[1].producer.inputs[0].array()  # type: ignore[union-attr]
        assert not pairs_exceed(reduction_rows(stored, 0)).any()
