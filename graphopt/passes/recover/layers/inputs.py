"""What the inputs of a matrix product look like: rows, their mean and their second moment.

A Conv is a matrix product of its weights with the windows that they are laid over (im2col). Rows of
many positions say the same, so a seeded choice of them is taken from each sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

HEAVY = ("Conv", "Gemm", "MatMul")
_DAMPING = 0.01
"""Share of the mean power that is added to each feature: what few rows cannot know."""
_PRECISION = 4e-7
"""Error of a sum of float32 products, as a share of the sum of squares of all features."""
_RANGE = (1e-15, 1e15)
"""Magnitudes whose products float32 can add up."""
_FEWEST_ROWS = 512
_ROWS_PER_FEATURE = 2
_SAMPLES = 8
_LAST = 64
_EVERY = 8
"""After the first samples each layer takes every eighth, up to the last."""
_LARGEST_BYTES = 256 << 20
"""Second moments of one model that are kept at once; layers that come later go without."""


@dataclass(frozen=True)
class LayerInputs:
    """First and second moments of the rows that a layer multiplies with its weights.

    Args:
        mean: float64 [groups, features].
        second: E[x x^T], float64 [groups, features, features]; features are ordered as in the
            weight of one output, flattened.
        token: tells them apart from those of other tensors and windows; hashable.
    """

    mean: Array
    second: Array
    token: tuple[object, ...]

    def moments(self, centred: bool, step: float) -> Array:
        """Return the second moment of what the layer reads; [groups, features, features].

        Args:
            centred: about the mean, which a bias can make up for.
            step: of the integers that the input is given in; their rounding adds step^2 / 12 to
                the variance of every feature, and keeps the matrix positive definite.
        """
        mean = self.mean if centred else np.zeros_like(self.mean)
        matrix = self.second - mean[:, :, None] * mean[:, None, :]
        features = matrix.shape[1]
        power = np.trace(matrix, axis1=1, axis2=2) / features
        noise = step * step / 12.0 + _DAMPING * power
        # Where the mean is all there is, what is left of float32 products may be negative.
        noise = np.maximum(noise, _PRECISION * np.trace(self.second, axis1=1, axis2=2))
        diagonal = np.arange(features)
        matrix[:, diagonal, diagonal] += noise[:, None]
        return np.asarray(matrix)


def weight_matrix(node: Node, weight: Array) -> Array:
    """Return the weight of a heavy operator as [groups, outputs of a group, features]."""
    if node.op == "Conv":
        groups = int(node.attribute("group", 1))
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    outputs_first = node.op == "Gemm" and bool(node.attribute("transB", 0))
    return (weight if outputs_first else weight.T)[None]


def weight_of_matrix(node: Node, matrix: Array, shape: Sequence[int]) -> Array:
    """Return what ``weight_matrix`` took apart, in the shape that the operator wants."""
    if node.op == "Conv":
        return matrix.reshape(shape)
    outputs_first = node.op == "Gemm" and bool(node.attribute("transB", 0))
    return np.ascontiguousarray(matrix[0] if outputs_first else matrix[0].T)


def observed_layers(graph: Graph) -> tuple[Node, ...]:
    """Return the products of a float32 activation and a constant matrix or kernel."""
    return tuple(n for n in graph.nodes(*HEAVY) if _is_observable(n))


def _is_observable(node: Node) -> bool:
    if node.domain or len(node.inputs) < 2 or node.attribute("transA", 0):
        return False
    source, weight = node.inputs[:2]
    if source is None or weight is None or source.is_constant or not weight.is_constant:
        return False
    if source.dtype is not DType.FLOAT or weight.dtype is not DType.FLOAT:
        return False
    if source.graph is not node.graph:
        return False
    return len(weight.shape or ()) == 2 or (node.op == "Conv" and len(weight.shape or ()) > 2)


def layer_inputs(graph: Graph, context: Context) -> dict[Node, LayerInputs]:
    """Return the moments of the inputs of every observable layer, from the calibration data.

    They are computed once per compile for graphs with the same content. A layer is absent where
    the data never reached it, where its input is not finite, or where memory is spent.
    """
    layers = _affordable(observed_layers(graph))
    if not layers or not context.has_data:
        return {}
    keys = {node: _key(node) for node in layers}
    made = context.remember(
        ("layer inputs", ir.structural_hash(graph)), lambda: _measure(graph, layers, context)
    )
    return {node: made[key] for node, key in keys.items() if key in made}


def _key(node: Node) -> tuple[object, ...]:
    """Return what decides the rows: the tensor, and how windows are laid over it."""
    source, weight = node.inputs[:2]
    assert source is not None
    assert weight is not None
    if node.op != "Conv":
        return (source.name,)
    names = ("auto_pad", "dilations", "group", "pads", "strides")
    geometry = tuple(str(node.attribute(name)) for name in names)
    return (source.name, tuple(weight.shape or ())[2:], *geometry)


def _affordable(layers: Sequence[Node]) -> list[Node]:
    kept: list[Node] = []
    seen: set[tuple[object, ...]] = set()
    room = _LARGEST_BYTES
    for node in layers:
        key = _key(node)
        weight = node.inputs[1]
        assert weight is not None
        groups, _, features = weight_matrix(node, np.empty(_sizes(weight.shape))).shape
        needed = 0 if key in seen else groups * features * features * 8
        if needed <= room:
            room -= needed
            seen.add(key)
            kept.append(node)
    return kept


def _sizes(shape: Sequence[object] | None) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else 0 for d in shape or ())


def _measure(
    graph: Graph, layers: Sequence[Node], context: Context
) -> dict[tuple[object, ...], LayerInputs]:
    by_tensor: dict[str, dict[tuple[object, ...], _Moments]] = {}
    for node in layers:
        key = _key(node)
        by_tensor.setdefault(str(key[0]), {}).setdefault(key, _Moments(node))
    turns = {name: index for index, name in enumerate(by_tensor)}
    for sample, name, values in context.stream(graph, list(by_tensor)):
        if sample >= _LAST:
            break
        if sample >= _SAMPLES and (sample + turns[name]) % _EVERY:
            continue
        random = np.random.default_rng((context.seed, sample))
        for moments in by_tensor[name].values():
            moments.update(values, random)
    found = ((key, m.result(key)) for group in by_tensor.values() for key, m in group.items())
    return {key: result for key, result in found if result is not None}


class _Moments:
    """Sums over the rows of one layer, for each group of a convolution.

    Not ``graphopt.calibration.gram``, which keeps float64 products of one group: rows of grouped
    convolutions are multiplied together here, and in float32, which is enough for rounding.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        weight = node.inputs[1]
        assert weight is not None
        groups, _, features = weight_matrix(node, np.empty(_sizes(weight.shape))).shape
        self.sum = np.zeros((groups, features))
        self.square = np.zeros((groups, features, features))
        self.count = 0
        self.waiting: list[Array] = []
        # Sums of few rows cost more in memory traffic than in arithmetic, so rows are gathered.
        self.batch = max(256, features)
        self.per_sample = -(-max(_FEWEST_ROWS, _ROWS_PER_FEATURE * features) // _SAMPLES)
        self.broken = False

    def update(self, values: Array, random: np.random.Generator) -> None:
        if self.broken or not values.size:
            return
        rows = input_rows(self.node, values, self.per_sample, random)
        peak = np.inf if rows is None else float(np.abs(rows).max(initial=0.0))
        if rows is None or not (peak == 0.0 or _RANGE[0] < peak < _RANGE[1]):
            self.broken = True
            return
        self.waiting.append(rows)
        if sum(r.shape[1] for r in self.waiting) >= self.batch:
            self.flush()

    def flush(self) -> None:
        rows = np.concatenate(self.waiting, axis=1)
        self.waiting.clear()
        self.sum += rows.sum(axis=1, dtype=np.float64)
        self.square += np.matmul(rows.transpose(0, 2, 1), rows)
        self.count += rows.shape[1]

    def result(self, key: tuple[object, ...]) -> LayerInputs | None:
        if self.waiting and not self.broken:
            self.flush()
        if self.broken or not self.count:
            return None
        return LayerInputs(self.sum / self.count, self.square / self.count, key)


def input_rows(node: Node, values: Array, most: int, random: np.random.Generator) -> Array | None:
    """Return rows that a layer multiplies with its weights.

    Args:
        node: Conv, Gemm or MatMul with a constant second operand.
        values: float [samples, channels, space...] for Conv, else [..., features].
        most: rows to return at most; a random choice where there are more.
        random: makes the choice.

    Returns:
        [groups, rows, features]; None where the input does not fit the weight.
    """
    weight = node.inputs[1]
    assert weight is not None
    shape = _sizes(weight.shape)
    if node.op == "Conv":
        return _windows(node, values, shape, most, random)
    features = weight_matrix(node, np.empty(shape)).shape[2]
    if values.ndim == 0 or values.shape[-1] != features:
        return None
    rows = values.reshape(-1, features)
    return rows[_chosen(len(rows), most, random)][None]


def _chosen(count: int, most: int, random: np.random.Generator) -> Array | slice:
    return slice(None) if count <= most else np.sort(random.choice(count, most, replace=False))


def _windows(
    node: Node, values: Array, shape: tuple[int, ...], most: int, random: np.random.Generator
) -> Array | None:
    kernel = shape[2:]
    groups = int(node.attribute("group", 1))
    if values.ndim != len(shape) or values.shape[1] != shape[1] * groups:
        return None
    if _is_pointwise(node, kernel):
        return _points(values, groups, most, random)
    space = len(kernel)
    strides = node.attribute("strides") or [1] * space
    dilations = node.attribute("dilations") or [1] * space
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = pads_of(node, values.shape[2:], reach, strides)
    padded = np.pad(values, [(0, 0), (0, 0), *pads])
    if any(size < r for size, r in zip(padded.shape[2:], reach, strict=True)):
        return None
    axes = tuple(range(2, 2 + space))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    view = view[(*steps, *(slice(None, None, d) for d in dilations))]
    # [samples, channels, positions..., taps...] to [samples, positions..., channels, taps...]
    moved = np.moveaxis(view, 1, 1 + space)
    positions = moved.shape[: 1 + space]
    picked = np.arange(int(np.prod(positions)))[_chosen(int(np.prod(positions)), most, random)]
    rows = moved[np.unravel_index(picked, positions)]
    grouped = rows.reshape(len(picked), groups, -1)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2))


def _is_pointwise(node: Node, kernel: tuple[int, ...]) -> bool:
    """Whether each output position reads one input position, in the same order."""
    plain = all(s == 1 for s in node.attribute("strides") or [])
    return plain and all(k == 1 for k in kernel) and not any(node.attribute("pads") or [])


def _points(values: Array, groups: int, most: int, random: np.random.Generator) -> Array:
    samples, channels = values.shape[:2]
    flat = values.reshape(samples, channels, -1)
    positions = _chosen(flat.shape[2], max(1, most // samples), random)
    picked = flat[:, :, positions].reshape(samples, groups, channels // groups, -1)
    rows = picked.transpose(1, 0, 3, 2).reshape(groups, -1, channels // groups)
    return np.ascontiguousarray(rows)


def pads_of(
    node: Node, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return how many zeros a Conv adds before and behind each spatial axis.

    Args:
        node: the Conv.
        sizes: of the spatial axes of its input.
        reach: input positions from the first tap of the kernel to the last.
        strides: of the kernel.
    """
    mode = node.attribute("auto_pad", "NOTSET")
    if mode in {"NOTSET", ""}:
        given = node.attribute("pads") or [0] * (2 * len(sizes))
        return list(zip(given[: len(sizes)], given[len(sizes) :], strict=True))
    if mode == "VALID":
        return [(0, 0)] * len(sizes)
    needed = [
        max((-(-size // s) - 1) * s + r - size, 0)
        for size, r, s in zip(sizes, reach, strides, strict=True)
    ]
    halves = [(n // 2, n - n // 2) for n in needed]
    return halves if mode == "SAME_UPPER" else [(high, low) for low, high in halves]
