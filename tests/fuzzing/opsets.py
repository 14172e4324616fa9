"""Nodes of opset 17 as other opsets write them: inputs that were attributes, and the reverse."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.defs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

WRITTEN = 17
"""The opset that steps are written in."""
_RESIZE_WITH_MODES = 11
_NEGATIVE_AXES = 11
_COUNTED_FROM_FRONT = frozenset({"Flatten", "Gather", "Squeeze", "Unsqueeze"})
"""Operators that took no negative axes and places at first; others were given them all the same."""
_RENAMED = {"constant_value": "value"}


class UnavailableError(Exception):
    """A step cannot be taken: the opset, or the values that there are, do not allow it."""


@functools.cache
def _schema(op: str, opset: int) -> onnx.defs.OpSchema:
    try:
        return onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        raise UnavailableError(op) from None


def in_opset(
    op: str,
    inputs: Sequence[str],
    attributes: Mapping[str, Any],
    opset: int,
    known: Mapping[str, NDArray[Any]],
) -> tuple[list[str], dict[str, Any], dict[str, list[int]]]:
    """Return inputs and attributes for another opset, and integer inputs that must be added.

    Args:
        op: the operator.
        inputs: names as opset 17 orders them; may be empty.
        attributes: as opset 17 names them.
        opset: what to write.
        known: values of constants by name; what becomes an attribute must be one.

    Raises:
        UnavailableError: the operator, or what it is given, does not exist there.
    """
    if op == "Resize" and opset < _RESIZE_WITH_MODES:
        raise UnavailableError(op)
    old, new = _schema(op, WRITTEN), _schema(op, opset)
    names = [p.name for p in new.inputs]
    kept, given, added = list(inputs), dict(attributes), dict[str, list[int]]()
    for index in reversed(range(len(kept))):
        formal = old.inputs[min(index, len(old.inputs) - 1)].name
        if index < len(old.inputs) and formal not in names and len(new.inputs) <= index:
            _to_attribute(kept, given, index, _RENAMED.get(formal, formal), new, known)
    if opset < _NEGATIVE_AXES and op in _COUNTED_FROM_FRONT:
        _demand_positive(op, given, [known[n] for n in kept[1:] if n in known])
    for name in [n for n in given if n not in new.attributes]:
        if name not in names:
            raise UnavailableError(f"{op}.{name}")
        added[name] = given.pop(name)
    if not new.min_input <= len(kept) + len(added) <= new.max_input:
        raise UnavailableError(op)
    return kept, given, added


def _demand_positive(
    op: str, attributes: Mapping[str, Any], constants: Sequence[NDArray[Any]]
) -> None:
    numbers = [np.asarray(attributes[k]) for k in ("axis", "axes") if k in attributes]
    if any((n < 0).any() for n in [*numbers, *constants]):
        raise UnavailableError(op)


def _to_attribute(
    inputs: list[str],
    attributes: dict[str, Any],
    index: int,
    name: str,
    schema: onnx.defs.OpSchema,
    known: Mapping[str, NDArray[Any]],
) -> None:
    value = inputs.pop(index)
    steps_of_one = name == "steps" and value in known and (known[value] == 1).all()
    if not value or steps_of_one:
        return
    if name not in schema.attributes or value not in known:
        raise UnavailableError(f"{schema.name}.{name}")
    kind = schema.attributes[name].type
    listed = kind in {onnx.defs.OpSchema.AttrType.INTS, onnx.defs.OpSchema.AttrType.FLOATS}
    array = known[value]
    attributes[name] = array.reshape(-1).tolist() if listed else array.reshape(-1)[0].item()
