"""Real models under torch: the outputs of onnxruntime, in floats and in integers."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.backend.test
import pytest
from graphopt_torch.execution import Program, to_torch

from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-4
"""Largest difference of an output, as a share of its largest value."""

SHARED = (
    "cifar10_resnet20",
    "cifar10_resnet20_jpegft",
    "cifar10_resnet20_jpegft_unfolded_bn",
    "cifar10_resnet20_unfolded_bn",
    "cifar10_resnet56",
    "cifar10_resnet56_unfolded_bn",
    "dtln_model_1",
    "dtln_model_2",
    "face_rfb320",
    "face_rfb320_simplified",
    "imagenet_proxyless_w025_r112",
    "imagenet_proxyless_w025_r112_unfolded_bn",
    "kws_dscnn_bn",
    "mnist_cntk",
    "stories260k_decoder",
    "superres_espcn_x3_y",
)
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
QUICK = {"light_shufflenet", "light_squeezenet"}


def _feed(graph: Graph, size: int) -> dict[str, Array]:
    """Return seeded inputs; open dimensions get a size of their own each."""
    made = {}
    for value in graph.feeds:
        shape = [d if isinstance(d, int) else size + i for i, d in enumerate(value.shape or ())]
        random = np.random.default_rng(zlib.crc32(value.name.encode()) + size)
        if value.dtype is not None and not value.dtype.is_float:
            made[value.name] = random.integers(0, 200, shape).astype(value.dtype.numpy_name)
        else:
            made[value.name] = random.standard_normal(shape).astype(np.float32)
    return made


def _assert_close(wanted: Mapping[str, Array], found: Mapping[str, Any]) -> None:
    for name, one in wanted.items():
        other = found[name].detach().numpy()
        assert other.shape == one.shape
        most = float(np.abs(one).max(initial=0.0)) or 1.0
        np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE * most, err_msg=name)


def _assert_executed(graph: Graph, sizes: tuple[int, ...] = (2, 3)) -> None:
    program, session = Program.of(graph), open_session(graph, optimize=False)
    for size in sizes:
        feed = _feed(graph, size)
        wanted = dict(zip(session.outputs, session.run(feed), strict=True))
        _assert_close(wanted, program.run({n: to_torch(a) for n, a in feed.items()}))


@pytest.mark.parametrize("name", SHARED)
def test_shared_models(name: str, shared: Path) -> None:
    _assert_executed(ir.load(shared / "models" / f"{name}.onnx"))


def test_the_list_of_shared_models_is_complete(shared: Path) -> None:
    assert sorted(p.stem for p in (shared / "models").glob("*.onnx")) == sorted(SHARED)


@pytest.mark.parametrize("name", ["digits_resnet", "waveform_transformer"])
def test_shipped_models(name: str, models: Path) -> None:
    _assert_executed(ir.load(models / f"{name}.onnx"))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow, id=p.stem)
        for p in sorted(LIGHT.glob("light_*.onnx"))
    ],
)
def test_light_topologies(path: Path) -> None:
    graph = ir.load(path)
    _draw_weights(graph)
    _assert_executed(graph, sizes=(1,))


def _draw_weights(graph: Graph) -> None:
    """Give every weight values of its own: as they are stored, all of them are one number."""
    graph.ir_version = max(graph.ir_version, 4)
    for value in graph.inputs:
        if value.is_initializer:
            graph.remove_input(value)
    random = np.random.default_rng(0)
    for node in graph.nodes("ConstantOfShape"):
        made, shape = node.outputs[0], node.inputs[0]
        assert shape is not None
        drawn = _drawn(made.uses[0], tuple(shape.array()), random)
        graph.replace_uses(made, graph.add_constant(f"{made.name}_drawn", drawn))
        graph.remove(node)


def _drawn(use: Any, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    node, position = use
    noise = random.standard_normal(shape)
    if len(shape) > 1:
        noise *= np.sqrt(2 / np.prod(shape[1:]))
    elif node.op == "BatchNormalization" and position in {1, 4}:
        noise = 1 + noise.clip(-2, 2) / 4
    else:
        noise /= 10
    return np.asarray(noise, np.float32)


# -- in integers -----------------------------------------------------------------------------

IN_INTEGERS = {"session.qdqisint8allowed": "1"}
"""Lets onnxruntime use integer kernels for int8 activations on every machine."""


def _equal_integers(graph: Graph, samples: Mapping[str, Array]) -> float:
    """Return the share of all quantized numbers that equal those of onnxruntime's kernels."""
    inner = [n.outputs[0] for n in graph.nodes("QuantizeLinear")]
    watched = graph.copy()
    watched.set_outputs([*watched.outputs, *(watched.value(v.name) for v in inner)])
    session = open_session(watched, config=IN_INTEGERS)
    wanted = dict(zip(session.outputs, session.run(samples), strict=True))
    names = [v.name for v in inner]
    found = Program.of(graph).run({n: to_torch(a) for n, a in samples.items()}, names)
    equal = sum(int((wanted[n] == found[n].numpy()).sum()) for n in names)
    return equal / sum(wanted[n].size for n in names)


@pytest.mark.parametrize("target", ["x86", "arm"])
def test_quantized_digits_are_exact(target: str, models: Path) -> None:
    with np.load(models / "digits.npz") as stored:
        data = {key: stored[key][:64] for key in stored.files if key != "label"}
    compiled = compile_model(
        models / "digits_resnet.onnx", data=data, target=target, recipe="integer", measure=False
    )
    assert compiled.graph.nodes("QuantizeLinear")
    name = compiled.graph.feeds[0].name
    assert _equal_integers(compiled.graph, {name: data[name]}) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86", "arm"])
@pytest.mark.parametrize("name", ["cifar10_resnet20_jpegft", "kws_dscnn_bn"])
def test_quantized_shared_models_are_exact(name: str, target: str, shared: Path) -> None:
    graph = ir.load(shared / "models" / f"{name}.onnx")
    feed = _feed(graph, 16)
    compiled = compile_model(graph, data=feed, target=target, recipe="integer", measure=False)
    assert _equal_integers(compiled.graph, feed) >= 0.999
