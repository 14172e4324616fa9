"""Match the layers of a quantized model with those of its float original, and cut each one out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.signal import Codes
from graphopt.analysis.weights import StoredWeight
from graphopt.ir import Attribute
from graphopt.runtime import HEAVY, INTEGER_KERNELS
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_ACTIVATIONS = frozenset({"Clip", "Relu"})
_MOVING = frozenset(
    {"Dropout", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Shape", "Slice",
     "Split", "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
_REGION_LIMIT = 64
_CODES = {
    DType.INT4: (-8, 7),
    DType.UINT4: (0, 15),
    DType.INT8: (-128, 127),
    DType.UINT8: (0, 255),
    DType.INT16: (-32768, 32767),
    DType.UINT16: (0, 65535),
}


@dataclass(frozen=True)
class Port:
    """One float tensor that a layer quantizes; ``codes`` is None where it is not quantized."""

    name: str
    codes: Codes | None


@dataclass(frozen=True)
class Layer:
    """One operator that computes on integers, in both models.

    Args:
        node: the operator of the float model; with the activation behind it, if there is one.
        reference: its result in the float model.
        result: its result in the quantized model, as floats.
        region: the nodes of the quantized model that it became, in order of execution.
        borders: the values of the quantized model that the region reads and both models have.
        inputs: the activations that it reads.
        output: how its result is quantized.
        weight: its float weight; None where it has none.
        stored: what the weight was quantized to; None where that cannot be told.
        bias_overflows: whether a bias reached the limits of 32 bits.
    """

    node: Node
    reference: Value
    result: Value
    region: tuple[Node, ...]
    borders: tuple[Value, ...]
    inputs: tuple[Port, ...]
    output: Port
    weight: Value | None = None
    stored: StoredWeight | None = None
    bias_overflows: bool = False

    @property
    def name(self) -> str:
        """How the user knows it."""
        return self.node.label

    @property
    def is_isolated(self) -> bool:
        """Whether the region is this layer and no other."""
        heavy = [n for n in self.region if n.op in HEAVY or n.op in INTEGER_KERNELS]
        return len(heavy) <= 1 and not any(n.subgraphs for n in self.region)

    @property
    def channel_axis(self) -> int:
        """Axis of the channels of its result."""
        shape = self.reference.shape
        is_spatial = self.node.op.startswith("Conv") or (shape is not None and len(shape) > 3)
        return 1 if is_spatial else -1

    @property
    def weight_axis(self) -> int:
        """Axis of the output channels of its weight."""
        if self.node.op == "Gemm":
            return 0 if self.node.attribute("transB", 0) else 1
        return {"Conv": 0, "ConvTranspose": 1}.get(self.node.op, -1)


def find_layers(reference: Graph, quantized: Graph) -> list[Layer]:
    """Return the operators that became integer, in the order of the float model.

    Tensors are matched by name; what was renamed, or fused with its neighbours, is not found.
    """
    twins = {v.name for v in reference.values() if not v.is_constant}
    found = (_layer(n, quantized, twins) for n in reference.nodes() if _computes(n))
    return [layer for layer in found if layer is not None]


def _computes(node: Node) -> bool:
    skipped = _MOVING | _ACTIVATIONS | _QUANTIZERS
    return node.op not in skipped and not node.subgraphs and bool(node.outputs)


def _layer(node: Node, quantized: Graph, twins: set[str]) -> Layer | None:
    ends = _ends(node, quantized)
    if ends is None:
        return None
    reference, plain, result = ends
    own = {node.outputs[0].name, reference.name, plain.name}
    cut = _region(result, own, twins)
    if cut is None:
        return None
    region, borders = cut
    weight = _weight(node)
    if not _is_quantized(node, region, result):
        return None
    return Layer(
        node,
        reference,
        result,
        region,
        borders,
        _ports(region, borders, plain),
        Port(reference.name, _codes_after(plain)),
        weight,
        _stored(region, weight) if weight is not None else None,
        _has_overflow(region),
    )


def _ends(node: Node, quantized: Graph) -> tuple[Value, Value, Value] | None:
    """Return the result in the float model, and in the other before and after Q and DQ."""
    output = node.outputs[0]
    reader = output.consumers[0] if len(output.uses) == 1 and not output.is_output else None
    activation = reader if reader is not None and reader.op in _ACTIVATIONS else None
    plain = quantized.find(output.name)
    reference = output
    if plain is None:
        plain = quantized.find(activation.outputs[0].name) if activation is not None else None
        reference = activation.outputs[0] if activation is not None else output
    elif activation is not None:
        follower = _only_reader(plain)
        if follower is not None and follower.op in _ACTIVATIONS:
            plain, reference = follower.outputs[0], activation.outputs[0]
        elif quantized.find(activation.outputs[0].name) is None:
            # The Q does what the activation did, so that one was taken out.
            reference = activation.outputs[0]
    if plain is None or plain.is_constant or plain.producer is None:
        return None
    return reference, plain, _after_pair(plain)


def _only_reader(value: Value) -> Node | None:
    return value.consumers[0] if len(value.consumers) == 1 else None


def _after_pair(value: Value) -> Value:
    """Return ``value`` after the Q and DQ that follow it; itself where none do."""
    for quantize in (n for n in value.consumers if n.op == "QuantizeLinear"):
        stored = quantize.outputs[0]
        cut = _only_reader(stored)
        if cut is not None and cut.op == "Slice":
            stored = cut.outputs[0]
        for reader in stored.consumers:
            if reader.op == "DequantizeLinear":
                return reader.outputs[0]
    return value


def _region(
    result: Value, own: set[str], twins: set[str]
) -> tuple[tuple[Node, ...], tuple[Value, ...]] | None:
    """Walk from ``result`` up to values that both models have; None where there are none."""
    region: dict[Node, None] = {}
    borders: dict[Value, None] = {}
    stack = [result]
    while stack:
        value = stack.pop()
        if value.is_constant:
            continue
        is_float = value.producer is None or value.producer.op != "QuantizeLinear"
        if value.name in twins and value.name not in own and is_float and value is not result:
            borders[value] = None
            continue
        if value.producer is None or len(region) > _REGION_LIMIT:
            return None
        if value.producer not in region:
            region[value.producer] = None
            stack += [v for v in value.producer.inputs if v is not None]
    order = {n: i for i, n in enumerate(result.graph.nodes())}
    return tuple(sorted(region, key=order.__getitem__)), tuple(borders)


def _is_quantized(node: Node, region: Iterable[Node], result: Value) -> bool:
    """Whether the operator itself computes on integers, not only its neighbours."""
    if any(n.op in INTEGER_KERNELS for n in region):
        return True
    pairs = [n for n in region if n.op == "DequantizeLinear"]
    if node.op in HEAVY:
        return any(_is_stored(n) for n in pairs)
    ends_in_pair = result.producer is not None and result.producer.op == "DequantizeLinear"
    return ends_in_pair and len(pairs) > 1


def _is_stored(dequantize: Node) -> bool:
    value = dequantize.inputs[0]
    return value is not None and value.is_constant


def _ports(region: Iterable[Node], borders: Iterable[Value], plain: Value) -> tuple[Port, ...]:
    quantizers = {
        n.inputs[0]: n for n in region if n.op == "QuantizeLinear" and n.inputs[0] is not plain
    }
    return tuple(Port(v.name, _codes(quantizers[v]) if v in quantizers else None) for v in borders)


def _codes_after(value: Value) -> Codes | None:
    quantize = next((n for n in value.consumers if n.op == "QuantizeLinear"), None)
    return _codes(quantize) if quantize is not None else None


def _codes(quantize: Node) -> Codes | None:
    """Return the codes of a Q with one scale for the whole tensor."""
    scale = quantize.inputs[1]
    zero = quantize.inputs[2] if len(quantize.inputs) > 2 else None
    if scale is None or not scale.is_constant or scale.array().size != 1:
        return None
    if zero is not None and not zero.is_constant:
        return None
    kind = zero.dtype if zero is not None and zero.dtype is not None else DType.UINT8
    if kind not in _CODES:
        return None
    step = float(scale.array().reshape(-1)[0])
    origin = int(zero.array().reshape(-1)[0]) if zero is not None else 0
    return Codes(step, origin, *_CODES[kind]) if step > 0 and np.isfinite(step) else None


def _weight(node: Node) -> Value | None:
    weight = node.inputs[1] if node.op in HEAVY and len(node.inputs) > 1 else None
    fits = weight is not None and weight.is_constant and len(weight.shape or ()) > 1
    return weight if fits else None


def _stored(region: Iterable[Node], weight: Value) -> StoredWeight | None:
    """Return the integers that stand for ``weight``, without the channels that pad it."""
    shape = weight.array().shape
    for node in region:
        if node.op != "DequantizeLinear" or not _is_stored(node) or node.attribute("block_size", 0):
            continue
        value, scale = node.inputs[0], node.inputs[1]
        if value is None or scale is None or not scale.is_constant:
            continue
        integers = value.array()
        padded = integers.ndim == len(shape) and all(
            a >= b for a, b in zip(integers.shape, shape, strict=True)
        )
        if padded:
            return _cropped(node, integers[tuple(slice(n) for n in shape)], scale.array())
    return None


def _cropped(dequantize: Node, integers: Array, scale: Array) -> StoredWeight:
    axis = dequantize.attribute("axis", 1) % integers.ndim if scale.size > 1 else None
    given = dequantize.inputs[2] if len(dequantize.inputs) > 2 else None
    zero = given.array() if given is not None else np.zeros(scale.shape, np.int8)
    if axis is not None:
        scale, zero = scale[: integers.shape[axis]], zero[: integers.shape[axis]]
    return StoredWeight(integers, scale.astype(np.float64), zero.astype(np.float64), axis)


def _has_overflow(region: Iterable[Node]) -> bool:
    stored = (n.inputs[0] for n in region if n.op == "DequantizeLinear" and _is_stored(n))
    biases = (v.array() for v in stored if v is not None and v.dtype is DType.INT32)
    return any(bool((np.abs(b.astype(np.int64)) >= 2**31 - 1).any()) for b in biases)


def graft(reference: Graph, layers: Iterable[Layer]) -> tuple[Graph, dict[str, str]]:
    """Return the float model with each layer beside itself, quantized, on the same inputs.

    The second answer is the name of what each layer gives there, by the layer's name; layers that
    cannot be told apart from their neighbours are left out.
    """
    joined = reference.copy()
    alone: dict[str, str] = {}
    for layer in layers:
        if not layer.is_isolated:
            continue
        held = {border: joined.value(border.name) for border in layer.borders}
        for node in layer.region:
            _copy_into(joined, node, held)
            source = node.graph
            for domain, version in source.opsets.items():
                joined.opsets.setdefault(domain, version)
        alone[layer.name] = held[layer.result].name
    joined.sort()
    return joined, alone


def _copy_into(joined: Graph, node: Node, held: dict[Value, Value]) -> None:
    """Append a copy of ``node`` that reads the copies of its inputs."""
    inputs: list[Value | None] = []
    for value in node.inputs:
        if value is not None and value not in held:
            held[value] = joined.add_constant(f"{value.name}_alone", value.tensor)
        inputs.append(None if value is None else held[value])
    names = [joined.unique_name(f"{v.name}_alone") if v.name else "" for v in node.outputs]
    label = f"{node.label}_alone_{names[0]}"
    made = joined.add_node(node.op, inputs, names, name=label, domain=node.domain)
    for attribute in node.attributes.values():
        made.put_attribute(Attribute(attribute.proto, (), attribute.tensors))
    held |= dict(zip(node.outputs, made.outputs, strict=True))
