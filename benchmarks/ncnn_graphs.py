"""ncnn's network definitions as kernel signatures: the text gives every layer and its shapes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.signature import Signature
from graphopt.cost.work import Product

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Shape = tuple[int, ...]
"""Channels, height, width; or rows and width; or width."""

# Input sizes of the definitions that do not carry their own: those of ncnn's benchncnn.cpp.
INPUT_SIZES = {"blazeface": 128, "FastestDet": 352, "vision_transformer": 384}

_HINT, _SLICES, _CROP_START, _CROP_END = -23330, -23300, -23309, -23310
_SAME = (-233, -234)
_WINOGRAD_CHANNELS = 16
"""Fewer channels on either side than this are not worth the transforms to ncnn."""

_KINDS = {
    layer: kind
    for kind, layers in {
        "elementwise": "BinaryOp Eltwise ReLU Swish HardSwish HardSigmoid Sigmoid GELU BatchNorm",
        "movement": "Concat ShuffleChannel Slice Crop Permute Padding Interp PriorBox Reshape",
        "reduction": "Softmax LayerNorm Reduction LRN",
        "pool": "Pooling",
        "other": "DetectionOutput Yolov3DetectionOutput YoloDetectionOutput",
    }.items()
    for layer in layers.split()
}
_FREE = frozenset({"Input", "MemoryData", "Split", "Noop", "Flatten", "Reshape", "PriorBox"})
"""Layers that compute nothing of the size of a tensor."""


@dataclass(frozen=True)
class Layer:
    """One line of a definition with its shapes.

    Args:
        op: ncnn's name of the layer type.
        inputs: shapes of what it reads.
        outputs: shapes of what it writes.
        numbers: parameters by their number in the file.
    """

    op: str
    name: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    numbers: dict[int, float]

    def number(self, key: int, default: float = 0) -> int:
        """Return parameter ``key`` as an integer."""
        return int(self.numbers.get(key, default))


def read_layers(path: Path) -> list[Layer]:
    """Return the layers of a ``.param`` file; shapes come from its hints, or are inferred."""
    known: dict[str, Shape] = {}
    layers = []
    for line in path.read_text(encoding="utf-8").splitlines()[2:]:
        op, name, readers, writers, *rest = line.split()
        sources = rest[: int(readers)]
        results = rest[int(readers) : int(readers) + int(writers)]
        numbers, arrays = _parameters(rest[int(readers) + int(writers) :])
        inputs = tuple(known[source] for source in sources)
        layer = Layer(op, name, inputs, (), numbers)
        outputs = _hinted(arrays) or inferred(layer, arrays, len(results), path.stem)
        known.update(zip(results, outputs, strict=True))
        layers.append(Layer(op, name, inputs, outputs, numbers))
    return layers


def signatures(path: Path) -> list[Signature]:
    """Return what ncnn executes for a definition, in order; the name says whether in int8."""
    return [found for layer in read_layers(path) for found in _signatures(layer)]


def inferred(
    layer: Layer, arrays: dict[int, list[float]], count: int, model: str
) -> tuple[Shape, ...]:
    """Return the shapes that a layer writes, from those that it reads and its parameters."""
    if layer.op == "Input":
        side = INPUT_SIZES[model]
        return ((3, side, side),)
    if layer.op == "Slice":
        channels, *rest = layer.inputs[0]
        return tuple((channels // count, *rest) for _ in range(count))
    if layer.op == "Crop":
        size = int(arrays[_CROP_END][0] - arrays[_CROP_START][0])
        return ((size, *layer.inputs[0][1:]),)
    rule = _RULES.get(layer.op)
    shape = rule(layer) if rule is not None else layer.inputs[0]
    return (shape,) * count


def _parameters(words: list[str]) -> tuple[dict[int, float], dict[int, list[float]]]:
    numbers: dict[int, float] = {}
    arrays: dict[int, list[float]] = {}
    for word in words:
        key, _, value = word.partition("=")
        if int(key) <= _SLICES:
            arrays[int(key)] = [float(v) for v in value.split(",")[1:]]
        else:
            numbers[int(key)] = float(value)
    return numbers, arrays


def _hinted(arrays: dict[int, list[float]]) -> tuple[Shape, ...]:
    """Return the shapes that the file states: four numbers each, width first."""
    hint = [int(v) for v in arrays.get(_HINT, ())]
    groups = [hint[start : start + 4] for start in range(0, len(hint), 4)]
    return tuple(tuple(reversed(group[1 : 1 + group[0]])) for group in groups)


def _window(layer: Layer) -> tuple[int, int]:
    width = layer.number(1)
    return layer.number(11, width), width


def _convolved(layer: Layer) -> Shape:
    return (layer.number(0), *_slid(layer, paddings=4))


def _pooled(layer: Layer) -> Shape:
    channels = layer.inputs[0][0]
    if layer.number(4):
        return (channels,)
    return (channels, *_slid(layer, paddings=3))


def _slid(layer: Layer, paddings: int) -> Shape:
    """Return height and width behind a window; ``paddings`` is the number of the left padding."""
    _, height, width = layer.inputs[0]
    rows, columns = _window(layer)
    dilation = (1, 1) if paddings == 3 else (layer.number(12, layer.number(2, 1)),
                                             layer.number(2, 1))  # fmt: skip
    step_key, high_key = (2, 12) if paddings == 3 else (3, 13)
    stride = layer.number(step_key, 1)
    strides = layer.number(high_key, stride), stride
    pad_high = 13 if paddings == 3 else 14
    left = layer.number(paddings)
    pads = layer.number(pad_high, left), left
    sides = []
    for size, kernel, step, spread, pad in zip(
        (height, width), (rows, columns), strides, dilation, pads, strict=True
    ):
        if pad in _SAME:
            sides.append(-(-size // step))
        else:
            sides.append((size + 2 * pad - spread * (kernel - 1) - 1) // step + 1)
    return tuple(sides)


def _padded(layer: Layer) -> Shape:
    channels, height, width = layer.inputs[0]
    top, bottom, left, right = (layer.number(key) for key in range(4))
    return (
        channels + layer.number(7) + layer.number(8), height + top + bottom, width + left + right,
    )  # fmt: skip


def _joined(layer: Layer) -> Shape:
    return (sum(shape[0] for shape in layer.inputs), *layer.inputs[0][1:])


def _broadcast(layer: Layer) -> Shape:
    return max(layer.inputs, key=math.prod)


def _scaled(layer: Layer) -> Shape:
    channels, height, width = layer.inputs[0]
    factor = layer.numbers.get(1, 1.0)
    return channels, int(height * factor), int(width * layer.numbers.get(2, factor))


def _stored(layer: Layer) -> Shape:
    sides = [layer.number(key) for key in (2, 1, 0)]
    return tuple(side for side in sides if side > 0)


def _reshaped(layer: Layer) -> Shape:
    total = math.prod(layer.inputs[0])
    rows = layer.number(1)
    return rows, total // rows


def _turned(layer: Layer) -> Shape:
    return tuple(reversed(layer.inputs[0]))


def _multiplied(layer: Layer) -> Shape:
    rows = math.prod(layer.inputs[0][:-1]) if layer.inputs else 1
    return rows, layer.number(8)


_RULES: dict[str, Callable[[Layer], Shape]] = {
    "Convolution": _convolved,
    "ConvolutionDepthWise": _convolved,
    "Pooling": _pooled,
    "Padding": _padded,
    "Concat": _joined,
    "BinaryOp": _broadcast,
    "Interp": _scaled,
    "MemoryData": _stored,
    "Reshape": _reshaped,
    "Permute": _turned,
    "Gemm": _multiplied,
}


def _signatures(layer: Layer) -> list[Signature]:
    if layer.op in _FREE:
        return []
    if layer.op == "MultiHeadAttention":
        return _attention(layer)
    product = _product(layer)
    if product is not None and product.groups > 1 and product.inputs > 1:
        return _grouped(layer, product)
    name, kind = _kernel(layer, product)
    return [_signature(layer, name, kind, product)]


def _grouped(layer: Layer, product: Product) -> list[Signature]:
    """Return one convolution per group: ncnn runs them one after another."""
    count = product.groups
    one = dataclasses.replace(product, groups=1)
    part = dataclasses.replace(
        layer,
        inputs=tuple((shape[0] // count, *shape[1:]) for shape in layer.inputs),
        outputs=tuple((shape[0] // count, *shape[1:]) for shape in layer.outputs),
    )
    return [_signature(part, *_kernel(part, one), one)] * count


def _signature(layer: Layer, name: str, kind: str, product: Product | None) -> Signature:
    is_integer = product is not None and layer.number(8) > 0 and layer.op != "Gemm"
    width = 1 if is_integer else 4
    weights = 0
    if product is not None:
        weights = product.columns * product.reduction * product.groups * width
    outputs = sum(math.prod(shape) for shape in layer.outputs)
    return Signature(
        kernel=name,
        kind=kind,
        dtype="int8" if is_integer else "float32",
        layout="plain",
        product=product,
        elements=outputs,
        read_bytes=4 * sum(math.prod(shape) for shape in layer.inputs),
        weight_bytes=weights,
        write_bytes=4 * outputs,
    )


def _product(layer: Layer) -> Product | None:
    if layer.op == "InnerProduct":
        return Product(1, layer.number(0), layer.number(2) // layer.number(0))
    if layer.op == "Gemm":
        rows, columns = layer.outputs[0]
        return Product(rows, columns, layer.number(9))
    if not layer.op.startswith(("Convolution", "Deconvolution")):
        return None
    window = math.prod(_window(layer))
    groups = max(layer.number(7, 1), 1)
    inputs, outputs = layer.inputs[0][0], layer.outputs[0][0]
    side = layer.inputs[0] if layer.op.startswith("De") else layer.outputs[0]
    return Product(math.prod(side[1:]), outputs // groups, inputs // groups, window, groups)


def _kernel(layer: Layer, product: Product | None) -> tuple[str, str]:
    """Return the kernel that ncnn takes for a layer, and its class."""
    if product is None:
        return layer.op, _KINDS[layer.op]
    if layer.op in {"InnerProduct", "Gemm"}:
        return layer.op, "gemv" if product.rows == 1 else "gemm"
    if product.groups > 1:
        return "Conv", "depthwise"
    if product.window == 1:
        return "Conv", "pointwise"
    return ("Winograd" if _is_winograd(layer, product) else "Conv"), "conv"


def _is_winograd(layer: Layer, product: Product) -> bool:
    plain = layer.number(3, 1) == 1 and layer.number(2, 1) == 1 and _window(layer) == (3, 3)
    return plain and min(product.inputs, product.columns) >= _WINOGRAD_CHANNELS


def _attention(layer: Layer) -> list[Signature]:
    """Return the products of an attention layer: four projections, scores, weighted values."""
    rows, width = layer.inputs[0]
    heads = layer.number(1)
    projection = Product(rows, width, width)
    scores = Product(rows, rows, width // heads, groups=heads)
    values = Product(rows, width // heads, rows, groups=heads)
    found = [_signature(layer, "Gemm", "gemm", p) for p in (projection,) * 4]
    return [*found, *(_signature(layer, "Attention", "gemm", p) for p in (scores, values))]
