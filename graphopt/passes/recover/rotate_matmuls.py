"""Rotate the residual stream of a transformer, so that no channel stands out.

Large models have a few channels that are a hundred times larger than the others, and one integer
scale cannot serve both. RMS normalization does not mind a rotation Q: |x Q| = |x|. So everything
that writes the stream is multiplied with Q, everything that reads it behind a normalization with
Q^T, and between them each channel is a mixture of all: exact, and free at run time.

A normalization that subtracts the mean (LayerNormalization) does not commute with Q. Rotating other
tensors would need a product at run time, which costs more than the integers save.

Source: Ashkboos et al. 2024 (QuaRot), arXiv:2404.00456, sec. 4, stage 1a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.recover.layers.residual_stream import ResidualStream, residual_streams
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RotateMatmuls:
    """Fold a Hadamard rotation of the residual stream into the weights around it."""

    name: ClassVar[str] = "rotate-matmuls"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Rotate every stream that only RMS normalizations read; say why others stay."""
        ir.infer_shapes(graph)
        done = 0
        for stream in residual_streams(graph, context):
            _rotate(graph, stream, hadamard(stream.width, context.seed))
            done += 1
        if not done:
            return PassResult(False)
        return PassResult(True, (counted(done, "stream", "rotated"),), {"streams": done})


def hadamard(size: int, seed: int) -> Array:
    """Return an orthogonal matrix whose entries are as equal as they can be; float64 [size, size].

    Sylvester's construction for the largest power of two that divides ``size``, with random signs,
    times a random orthogonal matrix for the rest.
    """
    random = np.random.default_rng((seed, size))
    matrix = np.ones((1, 1))
    while size % (2 * len(matrix)) == 0:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    rest = size // len(matrix)
    rotation = (
        np.linalg.qr(random.standard_normal((rest, rest)))[0] if rest > 1 else np.ones((1, 1))
    )
    signs = random.choice([-1.0, 1.0], size)
    return np.asarray(signs[:, None] * np.kron(matrix / np.sqrt(len(matrix)), rotation))


def _rotate(graph: Graph, stream: ResidualStream, rotation: Array) -> None:
    for node, index, transposed in stream.writers:
        value = node.inputs[index]
        assert value is not None
        array = value.array().astype(np.float64)
        rotated = rotation.T @ array if transposed else array @ rotation
        replace_constant(graph, node, index, rotated)
    for node, gain in stream.readers:
        value = node.inputs[1]
        assert value is not None
        array = value.array().astype(np.float64)
        rows = array.T if node.op == "Gemm" and node.attribute("transB", 0) else array
        turned = rotation.T @ (gain[:, None] * rows)
        replace_constant(graph, node, 1, turned if rows is array else turned.T)
    for node, index in stream.gains:
        value = node.inputs[index]
        assert value is not None
        replace_constant(graph, node, index, np.ones_like(value.array()))
