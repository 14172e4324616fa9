"""Node attributes: kept as they were stored, decoded when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import AttributeProto

from graphopt.errors import ModelError
from graphopt.ir.tensor import Tensor

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

_SCALARS = {AttributeProto.FLOAT: "f", AttributeProto.INT: "i"}
_LISTS = {AttributeProto.FLOATS: "floats", AttributeProto.INTS: "ints"}


class Attribute:
    """One attribute of a node; graphs inside it are live, everything else is a protobuf.

    ``tensors`` is filled where tensors of the attribute are stored outside the model file.
    """

    __slots__ = ("graphs", "name", "proto", "tensors")

    def __init__(
        self,
        proto: onnx.AttributeProto,
        graphs: tuple[Graph, ...] = (),
        tensors: tuple[Tensor, ...] = (),
    ) -> None:
        self.name = proto.name
        self.proto = proto
        self.graphs = graphs
        self.tensors = tensors

    @property
    def reference(self) -> str:
        """Name of the function attribute that this one refers to; empty when it has a value."""
        return str(self.proto.ref_attr_name)

    @classmethod
    def encode(cls, name: str, value: Any) -> Attribute:
        """Make an attribute from a Python value."""
        from graphopt.ir.graph import Graph

        if isinstance(value, Graph):
            return cls(AttributeProto(name=name, type=AttributeProto.GRAPH), (value,))
        if isinstance(value, Tensor):
            return cls(AttributeProto(name=name, type=AttributeProto.TENSOR, t=value.to_proto("")))
        return cls(onnx.helper.make_attribute(name, value))

    def value(self) -> Any:
        """Return int, float, str, bytes (not UTF-8), list, Tensor, Graph, or the protobuf."""
        proto = self.proto
        kind = proto.type
        if kind in _SCALARS:
            return getattr(proto, _SCALARS[kind])
        if kind in _LISTS:
            return list(getattr(proto, _LISTS[kind]))
        if kind == AttributeProto.STRING:
            return _text(proto.s)
        if kind == AttributeProto.STRINGS:
            return [_text(s) for s in proto.strings]
        if kind == AttributeProto.TENSOR:
            return self._tensor()
        if kind == AttributeProto.TENSORS:
            return list(self.tensors) or [Tensor.from_proto(t) for t in proto.tensors]
        if kind == AttributeProto.GRAPH:
            if not self.graphs:
                raise self._is_empty("graph")
            return self.graphs[0]
        if kind == AttributeProto.GRAPHS:
            return list(self.graphs)
        return proto

    def _tensor(self) -> Tensor:
        if not self.tensors and not self.proto.HasField("t"):
            raise self._is_empty("tensor")
        return self.tensors[0] if self.tensors else Tensor.from_proto(self.proto.t)

    def _is_empty(self, what: str) -> ModelError:
        return ModelError(
            f"the attribute `{self.name}` holds no {what}",
            code="G205",
            hint="the file is damaged, or whoever wrote it is at fault",
        )


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
