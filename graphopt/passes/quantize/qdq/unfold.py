"""Give a convolution of one channel the channels that the runtime's fast kernel takes.

A K x K convolution of one channel is a K x 1 convolution of K channels: the input, shifted by
0 to K - 1 columns. That fills the kernel's block of channels with work, where zeros would fill it
with nothing: a 5 x 5 kernel multiplies 5 x 8 values for each output instead of 25 x 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.quantize.qdq.border import reads_at_border

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

_WORTH = 0.6
"""Share of the products of the padded convolution up to which the copies pay."""

_END = np.iinfo(np.int64).max


def unfold_stem(graph: Graph, node: Node, block: int) -> bool:
    """Unfold an integer convolution of one channel at the border of an island; say whether.

    Exact: every product is the same one, and those that are added have weight zero.
    """
    dequantize, weight = _producer(node.inputs[0]), _producer(node.inputs[1])
    if dequantize is None or weight is None or not reads_at_border(dequantize):
        return False
    stored, kernel = dequantize.inputs[0], weight.inputs[0]
    assert stored is not None
    assert kernel is not None
    taps = kernel.array()
    if not _is_unfoldable(node, taps, block):
        return False
    pads = node.attribute("pads", [0, 0, 0, 0])
    channels = -(-taps.shape[3] // block) * block
    shifted = _shift(graph, stored, dequantize, taps.shape[3], channels, (pads[1], pads[3]))
    name = graph.unique_name(f"{shifted.name}_dequantized")
    own = graph.add_node(
        "DequantizeLinear",
        [shifted, *dequantize.inputs[1:]],
        [name],
        name=f"DequantizeLinear_{name}",
    )
    node.set_input(0, own.outputs[0])
    wide = np.zeros((taps.shape[0], channels, taps.shape[2], 1), dtype=taps.dtype)
    wide[:, : taps.shape[3], :, 0] = taps[:, 0].transpose(0, 2, 1)
    weight.set_input(0, graph.add_constant(f"{kernel.name}_unfolded", wide))
    if kernel.is_initializer and not kernel.uses and not kernel.is_output:
        graph.remove_value(kernel)
    node.set_attribute("pads", [pads[0], 0, pads[2], 0])
    node.set_attribute("kernel_shape", [taps.shape[2], 1])
    if not dequantize.outputs[0].uses and not dequantize.outputs[0].is_output:
        graph.remove(dequantize)
    return True


def _is_unfoldable(node: Node, taps: Array, block: int) -> bool:
    if taps.ndim != 4 or taps.shape[1] != 1 or node.attribute("auto_pad", "NOTSET") != "NOTSET":
        return False
    plain = all(v == 1 for k in ("strides", "dilations") for v in node.attribute(k, [1, 1]))
    height, width = taps.shape[2:]
    unfolded = -(-width // block) * block * height
    return plain and block > 1 and unfolded <= _WORTH * block * height * width


def _shift(
    graph: Graph,
    stored: Value,
    dequantize: Node,
    width: int,
    channels: int,
    pads: tuple[int, int],
) -> Value:
    """Return the integers beside themselves, each channel one column further."""
    padded = stored
    if any(pads):
        sizes = np.array([0, 0, 0, pads[0], 0, 0, 0, pads[1]], dtype=np.int64)
        amounts = graph.add_constant(f"{stored.name}_pads", sizes)
        name = graph.unique_name(f"{stored.name}_padded")
        added = graph.add_node(
            "Pad", [stored, amounts, dequantize.inputs[2]], [name], name=f"Pad_{name}"
        )
        padded = added.outputs[0]
    axis = graph.add_constant(f"{stored.name}_columns", np.array([3], dtype=np.int64))
    columns = [_columns(graph, padded, axis, shift, width) for shift in range(width)]
    # What fills the block is read with weight zero: any of the columns will do.
    columns += columns[-1:] * (channels - width)
    name = graph.unique_name(f"{stored.name}_shifted")
    joined = graph.add_node("Concat", columns, [name], {"axis": 1}, name=f"Concat_{name}")
    return joined.outputs[0]


def _columns(graph: Graph, padded: Value, axis: Value, shift: int, width: int) -> Value:
    end = shift - width + 1
    bounds = [
        graph.add_constant(f"{padded.name}_{name}", np.array([value], dtype=np.int64))
        for name, value in (("start", shift), ("end", end if end < 0 else _END))
    ]
    name = graph.unique_name(f"{padded.name}_columns")
    cut = graph.add_node("Slice", [padded, *bounds, axis], [name], name=f"Slice_{name}")
    return cut.outputs[0]


def _producer(value: Value | None) -> Node | None:
    return value.producer if value is not None else None
