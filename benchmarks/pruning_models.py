"""The models of the pruning scoreboard: where each comes from, and how to read it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.backend.test

import torchvision_models
import transformer_models
from graphopt import ir
from workloads import SHARED

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
FAMILIES = ("light", "shared", "torchvision", "transformers")


@dataclass(frozen=True)
class Model:
    """One model of the scoreboard.

    Args:
        family: one of FAMILIES.
        name: unique within its family.
    """

    family: str
    name: str

    @property
    def key(self) -> str:
        """What the results call it."""
        return f"{self.family}/{self.name}"

    def file(self, folder: Path) -> Path:
        """Return its file; export it first when it is not there.

        Raises:
            RuntimeError: it cannot be exported; the message is the reason.
        """
        if self.family == "light":
            return LIGHT / f"light_{self.name}.onnx"
        if self.family == "shared":
            return SHARED / "models" / f"{self.name}.onnx"
        source = torchvision_models if self.family == "torchvision" else transformer_models
        made: tuple[Path, str] = source.export(self.name, folder)
        path, reason = made
        if reason:
            raise RuntimeError(f"cannot be exported: {reason}")
        return path

    def read(self, folder: Path) -> Graph:
        """Return its graph, with weights."""
        graph = ir.load(self.file(folder))
        if self.family == "light":
            draw_weights(graph, zlib.crc32(self.name.encode()))
        return graph


def models() -> tuple[Model, ...]:
    """Return all of them, in the order of FAMILIES."""
    light = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))
    shared = sorted(path.stem for path in (SHARED / "models").glob("*.onnx"))
    names = (light, shared, torchvision_models.NAMES, transformer_models.NAMES)
    return tuple(Model(f, n) for f, some in zip(FAMILIES, names, strict=True) for n in some)


# -- the light models, whose weights are all the same number -------------------------------


def draw_weights(graph: Graph, seed: int) -> None:
    """Draw the weights of a model that computes them with ConstantOfShape or repeats one number.

    Weights keep the scale of what passes through them, biases are not zero, variances positive.
    """
    random = np.random.default_rng(seed)
    # Since IR version 4 stored values need not be inputs, which anybody could override.
    graph.ir_version = max(graph.ir_version, 4)
    for value in graph.inputs:
        if value.is_initializer:
            graph.remove_input(value)
    for node in graph.nodes("ConstantOfShape"):
        _store(node, graph)
    for value in graph.initializers:
        tensor = value.tensor
        if tensor is not None and tensor.dtype.name == "FLOAT" and value.uses:
            node, position = value.uses[0]
            array = _drawn(node, position, tensor.array(), random)
            graph.set_tensor(value, ir.Tensor.from_array(array.astype(np.float32)))


def _store(node: Node, graph: Graph) -> None:
    made, shape = node.outputs[0], node.inputs[0]
    if shape is None or not shape.is_constant:
        return
    name = made.name
    weight = graph.add_constant(graph.unique_name(name), np.zeros(shape.array(), np.float32))
    graph.replace_uses(made, weight)
    graph.remove(node)
    graph.rename(weight, name)


def _drawn(node: Node, position: int, array: Array, random: np.random.Generator) -> Array:
    noise: Array = np.asarray(random.standard_normal(array.shape))
    if array.ndim > 1 and node.op in {"Conv", "Gemm", "MatMul"} and position == 1:
        fan = float(array.shape[1] if node.op == "Gemm" else array[0].size)
        return noise * np.sqrt(2 / fan)
    if node.op == "BatchNormalization" and position == 1 and _joins(node):
        # Many residual branches are added up: each is small, as in a trained network.
        return 0.3 + noise.clip(-2, 2) / 12
    if (node.op == "BatchNormalization" and position in {1, 4}) or _scales(node):
        return 1 + noise.clip(-2, 2) / 4
    return noise / 10


def _joins(node: Node) -> bool:
    """Whether its output is added to something."""
    return any(consumer.op in {"Add", "Sum"} for consumer in node.outputs[0].consumers)


def _scales(node: Node) -> bool:
    """Whether it is multiplied with what passes, perhaps after a change of its shape."""
    if node.op == "Unsqueeze":
        uses: tuple[tuple[Node, int], ...] = node.outputs[0].uses
        return bool(uses) and uses[0][0].op == "Mul"
    return node.op == "Mul"
