"""What onnx's version converter gets wrong without saying so: refused, or put right afterwards.

Found by running models of old operator sets before and after conversion (onnx 1.23):

- Resize of opset 10 and Upsample sample at x / scale; from opset 11 the default is another place.
- Hardmax before opset 13 works on all axes from ``axis`` on together, and is left as it is.
- Scan of opset 8 has a batch axis and an input of lengths, which opset 9 took away.
- Pad before opset 11 keeps the attribute for its value where it does not pad with a constant.
- The mask of Dropout before opset 12 is of another type, and nobody defined it for inference.
- GroupNormalization before opset 21 has one scale a group, and the converter repeats it wrongly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.shapes import infer_shapes

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node

_SCAN_WITHOUT_BATCH = 9
_DROPOUT_WITH_BOOLEAN_MASK = 12
_RESIZE_WITH_MODES = 11
_HARDMAX_ALONG_ONE_AXIS = 13
_GROUP_NORM_PER_CHANNEL = 21


def obstacle(graph: Graph, version: int) -> str | None:
    """Return what the converter would change the meaning of, or None; ``graph`` is not changed."""
    before = graph.opset
    nodes = [n for n in graph.walk() if n.domain == ""]
    if any(n.op == "Hardmax" for n in nodes) and _crosses(_HARDMAX_ALONG_ONE_AXIS, before, version):
        graph = graph.copy()
        infer_shapes(graph)
        nodes = [n for n in graph.walk() if n.domain == ""]
    return next((r for n in nodes if (r := _reason(n, before, version))), None)


def _crosses(changed: int, before: int, version: int) -> bool:
    return before < changed <= version


def _reason(node: Node, before: int, version: int) -> str | None:
    match node.op:
        case "Scan" if _crosses(_SCAN_WITHOUT_BATCH, before, version):
            return "Scan has no batch axis from opset 9 on"
        case "Dropout" if _crosses(_DROPOUT_WITH_BOOLEAN_MASK, before, version):
            return "the mask of Dropout is read" if _is_mask_read(node) else None
        case "GroupNormalization" if _crosses(_GROUP_NORM_PER_CHANNEL, before, version):
            return "GroupNormalization has scales of channels from opset 21 on"
        case "Hardmax" if _crosses(_HARDMAX_ALONG_ONE_AXIS, before, version):
            return None if _is_along_last(node) else "Hardmax runs over several axes"
        case "Resize" | "Upsample" if _crosses(_RESIZE_WITH_MODES, before, version):
            if node.graph.parent is not None:
                return f"{node.op} is inside a branch or a loop"
            return None if _rounding(node) else f"the scales of {node.op} are not all known"
    return None


def _is_mask_read(node: Node) -> bool:
    return any(v.uses or v.is_output for v in node.outputs[1:])


def _is_along_last(node: Node) -> bool:
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    return bool(shape) and node.attribute("axis", 1) in {-1, len(shape or ()) - 1}


def _rounding(node: Node) -> str | None:
    """Return the nearest_mode of opset 11 that the node means; any does where it interpolates."""
    if node.attribute("mode", "nearest") != "nearest" or node.op == "Upsample":
        return "floor"
    scales = node.inputs[1] if len(node.inputs) > 1 else None
    if scales is None or not scales.is_constant:
        return None
    values = scales.array().reshape(-1)
    if (values >= 1).all():
        return "floor"
    return "ceil" if (values <= 1).all() else None


def repair(before: Graph, after: Graph) -> None:
    """Put right in ``after``, which was converted from ``before``, what the converter got wrong."""
    if _crosses(_RESIZE_WITH_MODES, before.opset, after.opset):
        _restore_sampling(before, after)
        for node in after.walk():
            if node.op == "Pad" and node.domain == "":
                # It is an input from opset 11 on, and was left behind where nothing reads it.
                node.set_attribute("value", None)


def _restore_sampling(before: Graph, after: Graph) -> None:
    """Write into each Resize where opset 10 and older sampled."""
    old = {n.outputs[0].name: n for n in before.nodes("Resize", "Upsample") if n.domain == ""}
    for node in after.nodes("Resize"):
        meant = old.get(node.outputs[0].name)
        if meant is None:
            continue
        node.set_attribute("coordinate_transformation_mode", "asymmetric")
        if meant.attribute("mode", "nearest") == "nearest":
            node.set_attribute("nearest_mode", _rounding(meant))
