"""Large weights inside a model's file go to a temporary file before it is parsed, and back.

A protobuf keeps all of its bytes in memory as long as any part of it is alive, and every copy of a
model copies its weights. Behind a reference they are in memory only while somebody looks at them.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from graphopt.ir import spill, wire
from graphopt.ir.tensor import CHUNK, ExternalBytes, Tensor
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

LEAST_FILE = 1 << 20
"""Smaller files are read as they are."""
LEAST_TENSOR = 1 << 12
"""Smaller tensors stay inside."""
_ALIGNMENT = 64
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA = 9
"""Numbers of the fields of ModelProto, GraphProto and TensorProto that are looked for."""
_ELSEWHERE = wire.varint(14 << 3) + wire.varint(onnx.TensorProto.EXTERNAL)
"""TensorProto.data_location, as it is written."""

Lifted = dict[str, ExternalBytes]


class _File:
    """A temporary file that goes when nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, spill.remove, str(path))


@dataclass(frozen=True)
class _Weight:
    """An initializer, its name, and the field that holds its values."""

    name: str
    tensor: wire.Field
    values: wire.Field


def lift(path: Path, *, in_place: bool = False) -> tuple[bytes, Lifted] | None:
    """Return the bytes of a model without its large weights, and where those lie now, by name.

    The bytes parse as the model's do; the tensors that are named are marked as external and hold
    nothing. None for a file that is small or damaged, which is read as it is.

    Args:
        path: of the model.
        in_place: leave the weights in this file.
    """
    if path.stat().st_size < LEAST_FILE:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            (graph,) = (f for f in wire.fields(data, 0, len(data)) if f.number == _GRAPH)
            weights = list(_weights(data, graph))
        except ValueError:
            return None
        if not weights or len({w.name for w in weights}) < len(weights):
            return None
        lifted = _left(path, weights) if in_place else _moved(file, weights)
        return None if lifted is None else (_without(data, graph, weights), lifted)


def _weights(data: mmap.mmap, graph: wire.Field) -> Iterator[_Weight]:
    """Yield the initializers of the outermost graph that hold many bytes, as many as they say."""
    for tensor in wire.fields(data, graph.content, graph.end):
        if tensor.number != _INITIALIZER or tensor.value < LEAST_TENSOR:
            continue
        parts = list(wire.fields(data, tensor.content, tensor.end))
        values = [p for p in parts if p.number == _RAW_DATA]
        if len(values) != 1 or values[0].value < LEAST_TENSOR:
            continue
        head = b"".join(data[p.start : p.end] for p in parts if p.number != _RAW_DATA)
        proto = onnx.TensorProto.FromString(head)
        if proto.name and _size(proto) == values[0].value:
            yield _Weight(proto.name, tensor, values[0])


def _size(proto: onnx.TensorProto) -> int | None:
    """Return how many bytes the values take; None where they cannot lie elsewhere."""
    outside = proto.data_location == onnx.TensorProto.EXTERNAL or proto.external_data
    if outside or proto.data_type not in set(DType) or any(d < 0 for d in proto.dims):
        return None
    dtype = DType(proto.data_type)
    if dtype in {DType.UNDEFINED, DType.STRING}:
        return None
    return dtype.nbytes(math.prod(proto.dims))


def _left(path: Path, weights: list[_Weight]) -> Lifted:
    return {w.name: ExternalBytes(path, w.values.content, w.values.value) for w in weights}


def _moved(source: BinaryIO, weights: list[_Weight]) -> Lifted | None:
    """Copy values into a temporary file; None where there is no room for it."""
    made = spill.new_file()
    if made is None:
        return None
    handle, path = made
    owner = _File(path)
    places = {}
    try:
        with os.fdopen(handle, "wb") as target:
            for weight in weights:
                target.write(b"\0" * (-target.tell() % _ALIGNMENT))
                size = weight.values.value
                places[weight.name] = ExternalBytes(path, target.tell(), size, owner)
                source.seek(weight.values.content)
                for start in range(0, size, CHUNK):
                    target.write(source.read(min(CHUNK, size - start)))
    except OSError:
        return None
    return places


def _without(data: mmap.mmap, graph: wire.Field, weights: list[_Weight]) -> bytes:
    """Return the model without the values; what holds them says its new size."""
    pieces, done = [], graph.content
    for weight in weights:
        tensor, values = weight.tensor, weight.values
        rest = data[tensor.content : values.start] + data[values.end : tensor.end] + _ELSEWHERE
        pieces += [data[done : tensor.start], wire.prefix(_INITIALIZER, len(rest)), rest]
        done = tensor.end
    inner = b"".join([*pieces, data[done : graph.end]])
    before, after = data[: graph.start], data[graph.end :]
    return b"".join([before, wire.prefix(_GRAPH, len(inner)), inner, after])


def joined(data: bytes, held: Mapping[str, Tensor]) -> Iterator[bytes]:
    """Yield a serialized model with values in the initializers of these names, which have none.

    Fields stay in the order of their numbers, as protobuf itself writes them.
    """
    for piece in _pieces(data, held):
        yield from piece.chunks() if isinstance(piece, Tensor) else (piece,)


def joined_size(data: bytes, sizes: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes ``joined`` yields, without looking at values.

    Args:
        data: the serialized model.
        sizes: of each initializer that gets values, its length without them, and theirs.
    """
    grown = 0
    for before, nbytes in sizes:
        after = before + len(wire.prefix(_RAW_DATA, nbytes)) + nbytes
        grown += after - before
        grown += len(wire.prefix(_INITIALIZER, after)) - len(wire.prefix(_INITIALIZER, before))
    (graph,) = (f for f in wire.fields(data, 0, len(data)) if f.number == _GRAPH)
    inner = graph.value
    return len(data) + grown + len(wire.varint(inner + grown)) - len(wire.varint(inner))


def _pieces(data: bytes, held: Mapping[str, Tensor]) -> list[bytes | Tensor]:
    (graph,) = (f for f in wire.fields(data, 0, len(data)) if f.number == _GRAPH)
    pieces: list[bytes | Tensor] = []
    done = graph.content
    for field in wire.fields(data, graph.content, graph.end):
        if field.number == _INITIALIZER:
            parts = list(wire.fields(data, field.content, field.end))
            name = onnx.TensorProto.FromString(data[field.content : field.end]).name
            if name in held:
                pieces += [data[done : field.start], *_filled(data, parts, held[name])]
                done = field.end
    pieces.append(data[done : graph.end])
    head = data[: graph.start] + wire.prefix(_GRAPH, _length(pieces))
    return [head, *pieces, data[graph.end :]]


def _length(pieces: Sequence[bytes | Tensor]) -> int:
    return sum(p.nbytes if isinstance(p, Tensor) else len(p) for p in pieces)


def _filled(data: bytes, parts: list[wire.Field], tensor: Tensor) -> list[bytes | Tensor]:
    """Return an initializer with its values, in pieces."""
    before = b"".join(data[p.start : p.end] for p in parts if p.number < _RAW_DATA)
    after = b"".join(data[p.start : p.end] for p in parts if p.number > _RAW_DATA)
    before += wire.prefix(_RAW_DATA, tensor.nbytes)
    size = len(before) + tensor.nbytes + len(after)
    return [wire.prefix(_INITIALIZER, size) + before, tensor, after]
