"""What each operator was before a version that changed it, where that is more than its types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.downgrade import operands
from graphopt.ir.downgrade.refusal import refusal
from graphopt.ir.tensor import Tensor
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir.node import Node

    Change = Callable[[Node, int], list[Node] | None]
    """Undoes one change in place; or returns what it put in the place of the node."""

CHANGES: dict[tuple[str, int], Change] = {}

_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
               "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare")  # fmt: skip
_ALONG_AN_AXIS = ("ArgMax", "ArgMin", "Concat", "Flatten", "Hardmax", "LogSoftmax", "Softmax",
                  "OneHot", "Split", "Compress", "TopK")  # fmt: skip
_WITHOUT_A_WAY_BACK = (
    *(("DFT", 20), ("OptionalGetElement", 18), ("OptionalHasElement", 18), ("Upsample", 10)),
    *(("NonMaxSuppression", 11), ("MaxUnpool", 11), ("Loop", 11), ("Scan", 11), ("Scatter", 11)),
    *(("If", 11), ("GatherND", 12)),
)


def _undoes(version: int, *ops: str) -> Callable[[Change], Change]:
    def keep(function: Change) -> Change:
        CHANGES.update({(op, version): function for op in ops})
        return function

    return keep


def _refuse(node: Node, version: int) -> None:
    raise refusal(node, "means something else there")


CHANGES.update(dict.fromkeys(_WITHOUT_A_WAY_BACK[:-1], _refuse))


@_undoes(18, *_REDUCTIONS)
@_undoes(13, "ReduceSum")
def _axes_of_reduction(node: Node, version: int) -> list[Node] | None:
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is not None and not axes.is_constant:
        raise refusal(node, "computes its axes")
    found = operands.integers(axes)
    if not found and node.attribute("noop_with_empty_axes", 0):
        return operands.replaced(node, "Identity", [node.inputs[0]])
    node.set_attribute("noop_with_empty_axes", None)
    operands.to_attribute(node, 1, "axes", found or None)
    return None


@_undoes(13, "Squeeze", "Unsqueeze")
def _axes(node: Node, version: int) -> None:
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is not None and not axes.is_constant:
        raise refusal(node, "computes its axes")
    operands.to_attribute(node, 1, "axes", operands.integers(axes))


@_undoes(18, "Split")
def _split_by_count(node: Node, version: int) -> None:
    count = node.attribute("num_outputs")
    node.set_attribute("num_outputs", None)
    if count is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
        return
    size = operands.dimension(node.inputs[0], int(node.attribute("axis", 0)))
    if not isinstance(size, int):
        raise refusal(node, "splits an axis of unknown length")
    part = -(-size // count)
    sizes = [part] * (count - 1) + [size - part * (count - 1)]
    node.set_input(1, operands.constant(node, "split", sizes))


@_undoes(13, "Split")
def _split_sizes(node: Node, version: int) -> None:
    sizes = node.inputs[1] if len(node.inputs) > 1 else None
    if sizes is not None and not sizes.is_constant:
        raise refusal(node, "computes its parts")
    operands.to_attribute(node, 1, "split", operands.integers(sizes))


@_undoes(13, "Softmax", "LogSoftmax", "Hardmax")
def _along_one_axis(node: Node, version: int) -> list[Node] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        raise refusal(node, "runs along an axis of a tensor of unknown rank")
    rank = len(source.shape)
    axis = int(node.attribute("axis", -1)) % max(rank, 1)
    if axis == rank - 1:
        node.set_attribute("axis", axis)
        return None
    order = [*(i for i in range(rank) if i != axis), axis]
    back = sorted(range(rank), key=order.__getitem__)
    turned = operands.inserted(node, "Transpose", [source], {"perm": order})
    turned.shape = tuple(source.shape[i] for i in order)
    result = operands.inserted(node, node.op, [turned], {"axis": rank - 1})
    made = [turned, result]
    return operands.replaced(node, "Transpose", [result], {"perm": back}, made=made)


@_undoes(12, "Dropout")
@_undoes(13, "Dropout")
def _without_training(node: Node, version: int) -> list[Node] | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is not None and not (training.is_constant and not training.array().any()):
        raise refusal(node, "may train")
    if any(v.uses or v.is_output for v in node.outputs[1:]):
        raise refusal(node, "returns its mask")
    return operands.replaced(node, "Identity", [node.inputs[0]])


@_undoes(14, "BatchNormalization")
def _running_statistics(node: Node, version: int) -> None:
    if any(v.uses or v.is_output for v in node.outputs[1:]):
        raise refusal(node, "trains")


@_undoes(14, "Reshape")
def _zeros_are_copied(node: Node, version: int) -> None:
    wanted = operands.integers(node.inputs[1])
    if node.attribute("allowzero", 0) and (wanted is None or 0 in wanted):
        raise refusal(node, "may make an empty axis")
    node.set_attribute("allowzero", None)


@_undoes(15, "Shape")
def _whole_shape(node: Node, version: int) -> list[Node] | None:
    start, end = node.attribute("start", 0), node.attribute("end")
    if not start and end is None:
        node.set_attribute("start", None)
        return None
    whole = operands.inserted(node, "Shape", [node.inputs[0]])
    whole.dtype = DType.INT64
    last = np.iinfo(np.int64).max if end is None else end
    bounds = [operands.constant(node, k, [v]) for k, v in (("start", start), ("end", last))]
    axes = operands.constant(node, "axes", [0])
    return operands.replaced(node, "Slice", [whole, *bounds, axes], made=[whole])


@_undoes(16, "RoiAlign")
def _at_pixels(node: Node, version: int) -> None:
    # Half a pixel is the default from 16 on, and was not there before.
    if node.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise refusal(node, "samples half a pixel away")
    node.set_attribute("coordinate_transformation_mode", None)


@_undoes(20, "GridSample")
def _named_modes(node: Node, version: int) -> None:
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or len(shape) != 4:
        raise refusal(node, "samples what is no image")
    node.set_attribute("mode", names[node.attribute("mode", "linear")])


@_undoes(18, "ScatterElements", "ScatterND")
def _sums_and_products(node: Node, version: int) -> None:
    if node.attribute("reduction", "none") in {"max", "min"}:
        raise refusal(node, "takes extremes")


@_undoes(19, "AveragePool")
@_undoes(18, "LpPool")
def _dense_windows(node: Node, version: int) -> None:
    if all(step == 1 for step in node.attribute("dilations") or ()):
        node.set_attribute("dilations", None)


@_undoes(12, "Constant")
def _plain_constant(node: Node, version: int) -> None:
    held = node.constant_tensor()
    if held is None:
        raise refusal(node, "holds strings")
    for name in node.attribute_names:
        node.set_attribute(name, None)
    node.set_attribute("value", held if held.proto is not None else Tensor.from_array(held.array()))


@_undoes(13, "QuantizeLinear", "DequantizeLinear")
def _one_scale(node: Node, version: int) -> None:
    scale = node.inputs[1]
    if scale is None or scale.shape not in {(), (1,)}:
        raise refusal(node, "has a scale for each channel")
    node.set_attribute("axis", None)


@_undoes(12, "GatherND")
def _no_batches(node: Node, version: int) -> None:
    if node.attribute("batch_dims", 0):
        raise refusal(node, "has batches")


@_undoes(19, "Pad")
def _no_wrapping(node: Node, version: int) -> None:
    if node.attribute("mode", "constant") == "wrap":
        raise refusal(node, "wraps around")


@_undoes(18, "Pad")
def _pads_of_all_axes(node: Node, version: int) -> None:
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if axes is None:
        return
    named, pads = operands.integers(axes), operands.integers(node.inputs[1])
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if named is None or pads is None or shape is None:
        raise refusal(node, "computes what it pads")
    rank = len(shape)
    whole = [0] * (2 * rank)
    for i, axis in enumerate(named):
        whole[axis % rank], whole[rank + axis % rank] = pads[i], pads[len(named) + i]
    node.set_input(1, operands.constant(node, "pads", whole))
    operands.cut(node, 3)


@_undoes(11, "Pad")
def _pads_as_attribute(node: Node, version: int) -> None:
    pads = operands.integers(node.inputs[1])
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if pads is None or (value is not None and not value.is_constant):
        raise refusal(node, "computes what it pads")
    amount = float(value.array().reshape(-1)[0]) if value is not None else 0.0
    operands.cut(node, 1)
    node.set_attribute("pads", pads)
    node.set_attribute("value", amount)


@_undoes(11, "Clip")
def _limits_as_attributes(node: Node, version: int) -> None:
    for index, name in ((1, "min"), (2, "max")):
        limit = node.inputs[index] if len(node.inputs) > index else None
        if limit is not None and not limit.is_constant:
            raise refusal(node, "computes its limits")
        found = float(limit.array().reshape(-1)[0]) if limit is not None else None
        node.set_attribute(name, found)
    operands.cut(node, 1)


@_undoes(19, "Resize")
def _known_places(node: Node, version: int) -> None:
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise refusal(node, "samples symmetrically")


@_undoes(18, "Resize")
def _sizes_of_all_axes(node: Node, version: int) -> None:
    axes = node.attribute("axes")
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise refusal(node, "keeps the aspect ratio")
    if axes is None:
        return
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
        raise refusal(node, "resizes axes of a tensor of unknown rank")
    index = 3 if len(node.inputs) > 3 and node.inputs[3] is not None else 2
    given = node.inputs[index]
    if given is None or not given.is_constant:
        raise refusal(node, "computes its sizes")
    whole = [1] * len(shape) if index == 2 else list(shape)
    for axis, size in zip(axes, given.array().tolist(), strict=True):
        whole[axis] = size
    if not all(isinstance(size, int | float) for size in whole):
        raise refusal(node, "leaves axes of unknown length alone")
    kind = np.float32 if index == 2 else np.int64
    node.set_input(index, operands.constant(node, "sizes", np.array(whole, kind)))
    node.set_attribute("axes", None)


@_undoes(13, "Resize")
def _operands_present(node: Node, version: int) -> None:
    for index in (1, 2):
        if len(node.inputs) <= index or node.inputs[index] is None:
            node.set_input(index, operands.constant(node, "none", np.zeros(0, np.float32)))


@_undoes(11, "Resize")
def _scales_alone(node: Node, version: int) -> None:
    nearest = node.attribute("mode", "nearest") == "nearest"
    placed = node.attribute("coordinate_transformation_mode", "half_pixel") == "asymmetric"
    rounded = not nearest or node.attribute("nearest_mode", "round_prefer_floor") == "floor"
    scales = node.inputs[2]
    values = scales.array() if scales is not None and scales.is_constant else np.zeros(0)
    if not (placed and rounded and values.size and (values >= 1).all()):
        raise refusal(node, "samples at other places")
    if node.attribute("mode", "nearest") == "cubic":
        raise refusal(node, "is cubic")
    for name in node.attribute_names:
        if name != "mode":
            node.set_attribute(name, None)
    node.set_inputs([node.inputs[0], scales])


@_undoes(11, "Gemm")
def _a_sum(node: Node, version: int) -> None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        kind = node.inputs[0].dtype if node.inputs[0] is not None else None
        if kind not in {DType.FLOAT, DType.DOUBLE, DType.FLOAT16}:
            raise refusal(node, "adds nothing")
        zero = np.zeros(1, kind.numpy_name)
        node.set_input(2, operands.constant(node, "zero", zero))


@_undoes(11, *_ALONG_AN_AXIS)
def _counted_from_the_front(node: Node, version: int) -> None:
    axis = node.attribute("axis")
    if axis is not None and axis < 0:
        node.set_attribute("axis", operands.positive(node, [axis], inserted=node.op == "OneHot")[0])
    elif axis is None and node.op in {"TopK", "OneHot"}:
        node.set_attribute("axis", operands.positive(node, [-1], inserted=node.op == "OneHot")[0])


@_undoes(11, *_REDUCTIONS, "ReduceSum", "Squeeze", "Unsqueeze")
def _all_from_the_front(node: Node, version: int) -> None:
    axes = node.attribute("axes")
    if axes and min(axes) < 0:
        made = operands.positive(node, axes, inserted=node.op == "Unsqueeze")
        node.set_attribute("axes", made)


@_undoes(11, "Gather")
def _rows_from_the_front(node: Node, version: int) -> None:
    _counted_from_the_front(node, version)
    index = operands.integers(node.inputs[1])
    if index is None or min(index, default=0) < 0:
        raise refusal(node, "may count rows from the end")


@_undoes(11, "Slice")
def _slices_from_the_front(node: Node, version: int) -> None:
    axes = operands.integers(node.inputs[3]) if len(node.inputs) > 3 else None
    if axes and min(axes) < 0:
        made = operands.positive(node, axes)
        node.set_input(3, operands.constant(node, "axes", made))
    elif len(node.inputs) > 3 and node.inputs[3] is not None and axes is None:
        raise refusal(node, "computes its axes")


@_undoes(10, "Slice")
def _slices_as_attributes(node: Node, version: int) -> None:
    lists = [operands.integers(v) for v in node.inputs[1:]]
    steps = lists[3] if len(lists) > 3 else None
    given = [v is None or found is not None
             for v, found in zip(node.inputs[1:], lists, strict=True)]  # fmt: skip
    if not all(given) or any(step != 1 for step in steps or ()):
        raise refusal(node, "computes what it takes, or takes steps")
    operands.cut(node, 1)
    for name, found in zip(("starts", "ends", "axes"), lists, strict=False):
        node.set_attribute(name, found)


@_undoes(10, "TopK")
def _count_as_attribute(node: Node, version: int) -> None:
    count = operands.integers(node.inputs[1])
    if count is None:
        raise refusal(node, "computes how many it takes")
    operands.to_attribute(node, 1, "k", count[0])


@_undoes(11, "AveragePool", "MaxPool", "LpPool", "Conv", "ConvTranspose")
def _pads_are_given(node: Node, version: int) -> None:
    if node.attribute("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise refusal(node, "pads by itself")


@_undoes(10, "Dropout")
def _without_mask(node: Node, version: int) -> list[Node] | None:
    return _without_training(node, version)
