"""Constant payloads: in memory, inside a protobuf, or on disk until somebody asks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from graphopt.errors import ModelError
from graphopt.ir import spill
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]
CHUNK = 1 << 20


@dataclass(frozen=True)
class ExternalBytes:
    """A byte range of a file that has been checked to lie inside the model's folder.

    ``owner`` is kept alive with it where the file is temporary, and removes it in the end.
    """

    path: Path
    offset: int
    length: int
    owner: object = dataclasses.field(default=None, compare=False, repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of at most 1 MiB; reads, so that no page stays mapped."""
        left = self.length
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self.gone() from error
        with file:
            file.seek(self.offset)
            while left > 0:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise self.gone()
                left -= len(piece)
                yield piece

    def gone(self) -> ModelError:
        """Return the error about a file that has changed since the model was read."""
        return ModelError(
            f"external data `{self.path.name}` ended early, or is gone",
            code="G203",
            where=str(self.path),
            hint="leave the data file alone while the model is in use",
        )


def _spilled(values: Array) -> ExternalBytes | None:
    """Write values to a file that goes with what is returned; None where that is not possible."""
    path = spill.write(values)
    if path is None:
        return None
    external = ExternalBytes(path, 0, values.nbytes)
    weakref.finalize(external, spill.remove, str(path))
    return external


def element_type(code: int, name: str) -> DType:
    """Return the element type of a number in a file; raises ModelError G205 when there is none."""
    try:
        return DType(code)
    except ValueError:
        raise ModelError(
            f"`{name}` has the element type {code}, which graphopt does not know",
            code="G205",
            hint="the file is damaged, or was written for a newer version of ONNX",
        ) from None


def check_values(proto: onnx.TensorProto) -> None:
    """Raise ModelError G205 unless ``proto`` holds as many values as its shape declares."""
    dtype = element_type(proto.data_type, proto.name)
    count = math.prod(proto.dims)
    declared = f"`{proto.name}` is declared as {dtype.name.lower()}{list(proto.dims)}"
    hint = "the file is damaged, or whoever wrote it is at fault"
    if dtype is DType.UNDEFINED or any(d < 0 for d in proto.dims):
        raise ModelError(f"{declared}, which is no tensor", code="G205", hint=hint)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return
    if proto.HasField("raw_data"):
        wanted, found, unit = dtype.nbytes(count), len(proto.raw_data), "bytes"
    else:
        field, per_element = _FIELDS.get(dtype, ("int32_data", 1))
        wanted, found, unit = count * per_element, len(getattr(proto, field)), "entries"
        if dtype.bits < 8 and dtype is not DType.STRING:
            wanted = dtype.nbytes(count)
    if wanted != found:
        raise ModelError(
            f"{declared}, which takes {wanted} {unit}, and holds {found}", code="G205", hint=hint
        )


_FIELDS = {
    DType.FLOAT: ("float_data", 1),
    DType.COMPLEX64: ("float_data", 2),
    DType.DOUBLE: ("double_data", 1),
    DType.COMPLEX128: ("double_data", 2),
    DType.INT64: ("int64_data", 1),
    DType.UINT32: ("uint64_data", 1),
    DType.UINT64: ("uint64_data", 1),
    DType.STRING: ("string_data", 1),
}
"""Where values are kept that are not raw, and how many entries one takes; int32_data otherwise."""


class Tensor:
    """An immutable constant: element type, shape, and values that are read when asked for."""

    __slots__ = ("_array", "_digest", "dtype", "external", "proto", "shape")

    def __init__(
        self,
        dtype: DType,
        shape: tuple[int, ...],
        *,
        proto: onnx.TensorProto | None = None,
        array: Array | None = None,
        external: ExternalBytes | None = None,
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.proto = proto
        self.external = external
        self._array = array
        self._digest: str | None = None

    @classmethod
    def from_array(cls, array: Any, dtype: DType | None = None) -> Tensor:
        """Make a tensor from values; ``dtype`` is taken from the array unless given.

        Values are copied: into memory, or where much of that is taken, into a temporary file.
        """
        values = np.asarray(array)
        if dtype is None:
            dtype = DType(onnx.helper.np_dtype_to_tensor_dtype(values.dtype))
        elif dtype is not DType.STRING:
            values = values.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype), copy=False)
        if dtype is not DType.STRING and dtype.bits >= 8 and not spill.has_room(values.nbytes):
            external = _spilled(values)
            if external is not None:
                return cls(dtype, values.shape, external=external)
        values = np.array(values)
        values.flags.writeable = False
        spill.hold(values)
        return cls(dtype, values.shape, array=values)

    @classmethod
    def from_proto(cls, proto: onnx.TensorProto, external: ExternalBytes | None = None) -> Tensor:
        """Wrap a protobuf tensor; ``external`` holds its bytes when they are not inside."""
        dtype = element_type(proto.data_type, proto.name)
        return cls(dtype, tuple(proto.dims), proto=proto, external=external)

    @classmethod
    def packed(cls, dtype: DType, shape: tuple[int, ...], data: bytes) -> Tensor:
        """Make a tensor from bytes as ONNX packs them; for types of less than a byte."""
        proto = onnx.TensorProto(data_type=dtype, dims=shape, raw_data=data)
        check_values(proto)
        return cls(dtype, tuple(shape), proto=proto)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values as ONNX packs them."""
        return self.dtype.nbytes(self.size)

    def array(self) -> Array:
        """Return the values, read-only; memory-mapped when they are on disk."""
        if self._array is not None:
            # Whoever gets a view cannot make it writable: only the owner of the memory may.
            return self._array.view()
        if self.external is not None:
            return self._external_array(self.external)
        assert self.proto is not None
        values = numpy_helper.to_array(self.proto)
        values.flags.writeable = False
        return values

    def _external_array(self, external: ExternalBytes) -> Array:
        if self.dtype.bits >= 8 and external.length:
            kind = onnx.helper.tensor_dtype_to_np_dtype(self.dtype)
            try:
                return np.memmap(
                    external.path, dtype=kind, mode="r", offset=external.offset, shape=self.shape
                )
            except (OSError, ValueError) as error:
                raise external.gone() from error
        packed = onnx.TensorProto(data_type=self.dtype, dims=self.shape)
        packed.raw_data = b"".join(external.chunks())
        return numpy_helper.to_array(packed)

    def to_proto(self, name: str) -> onnx.TensorProto:
        """Return the tensor with its values inside; unchanged tensors keep their encoding."""
        proto = onnx.TensorProto()
        if self.external is not None:
            proto.CopyFrom(self.header(name))
            proto.raw_data = b"".join(self.external.chunks())
        elif self.proto is not None:
            proto.CopyFrom(self.proto)
        else:
            assert self._array is not None
            proto.CopyFrom(numpy_helper.from_array(self._array))
            proto.data_type = self.dtype
        if proto.name != name:
            proto.name = name
        return proto

    def header(self, name: str) -> onnx.TensorProto:
        """Return name, type, shape and annotations without values or their location."""
        header = onnx.TensorProto(data_type=self.dtype, dims=self.shape)
        if self.proto is not None:
            for key in ("name", "doc_string"):
                if self.proto.HasField(key):
                    setattr(header, key, getattr(self.proto, key))
            header.metadata_props.extend(self.proto.metadata_props)
        if header.name != name:
            header.name = name
        return header

    def chunks(self) -> Iterator[bytes]:
        """Yield the raw little-endian bytes, packed as ONNX stores them."""
        if self.external is not None:
            yield from self.external.chunks()
            return
        if self.proto is not None and self.proto.HasField("raw_data"):
            yield self.proto.raw_data
            return
        values = self.array()
        if self.dtype.bits >= 8:
            flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            yield from (flat[i : i + CHUNK].tobytes() for i in range(0, flat.size, CHUNK))
            return
        yield numpy_helper.from_array(values).raw_data

    def digest(self) -> str:
        """Return a hash of type, shape and values; computed once, streamed from disk."""
        if self._digest is None:
            state = hashlib.blake2b(f"{self.dtype.name}{self.shape}".encode(), digest_size=16)
            if self.dtype is DType.STRING:
                state.update(repr(self.array().tolist()).encode())
            else:
                for piece in self.chunks():
                    state.update(piece)
            self._digest = state.hexdigest()
        return self._digest

    def is_intact(self) -> bool:
        """Whether the values still have the digest that was computed first."""
        known, self._digest = self._digest, None
        return known is None or self.digest() == known

    def __repr__(self) -> str:
        place = f" at {self.external.path.name}" if self.external else ""
        return f"Tensor({self.dtype.name} {list(self.shape)}{place})"
