"""Constants of which a file holds only the values that are not 0 (ONNX's sparse initializers)."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from graphopt.errors import ModelError
from graphopt.ir.tensor import Tensor, check_values, element_type
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable

    Array = np.ndarray[Any, Any]

LARGEST_BYTES = (1 << 31) - 1
"""Dense bytes of the sparse constants of one graph; a short file could ask for any amount."""
_INDEX_BYTES = 8
_INDEX_TYPES = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64})
"""ONNX has int64; onnxruntime reads the others too."""
_HINT = "the file is damaged, or whoever wrote it is at fault"


class SparseTensor(Tensor):
    """A constant that is stored as values and their places; passes see it dense.

    ``nbytes`` counts what is stored; ``array`` and ``chunks`` give all values.
    """

    __slots__ = ("sparse",)

    def __init__(self, sparse: onnx.SparseTensorProto) -> None:
        """Wrap a message that ``check_sparse`` has passed."""
        values = sparse.values
        super().__init__(element_type(values.data_type, values.name), tuple(sparse.dims))
        self.sparse = sparse

    @classmethod
    def of(cls, tensor: Tensor) -> SparseTensor:
        """Return the same values, stored sparsely with linear indices.

        Raises:
            ValueError: a scalar, strings, or a type of less than a byte.
        """
        if not tensor.shape or tensor.dtype is DType.STRING or tensor.dtype.bits < 8:
            shape = list(tensor.shape)
            raise ValueError(f"{tensor.dtype.name.lower()}{shape} is not stored sparsely")
        flat = np.ascontiguousarray(tensor.array()).reshape(-1)
        places = _nonzero(flat)
        sparse = onnx.SparseTensorProto(dims=tensor.shape)
        sparse.values.CopyFrom(numpy_helper.from_array(flat[places]))
        sparse.values.data_type = tensor.dtype
        sparse.indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64)))
        return cls(sparse)

    @property
    def count(self) -> int:
        """Number of values that are stored."""
        return math.prod(self.sparse.values.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored values and of their indices."""
        kind = DType(self.sparse.indices.data_type)
        return self.dtype.nbytes(self.count) + kind.nbytes(math.prod(self.sparse.indices.dims))

    def array(self) -> Array:
        """Return all values, read-only; made anew at each call."""
        values = numpy_helper.to_array(self.sparse.values)
        if self.dtype is DType.STRING:
            dense = np.full(math.prod(self.shape), "", dtype=object)
        else:
            dense = np.zeros(math.prod(self.shape), dtype=values.dtype)
        dense[linear_indices(self.sparse)] = values
        dense.flags.writeable = False
        return dense.reshape(self.shape)

    def to_proto(self, name: str) -> onnx.TensorProto:
        """Return the tensor with all its values inside, for where ONNX wants it dense."""
        return Tensor.from_array(self.array(), self.dtype).to_proto(name)

    def to_sparse_proto(self, name: str) -> onnx.SparseTensorProto:
        """Return the message as it was read or made, under this name."""
        if self.sparse.values.name == name:
            return self.sparse
        made = onnx.SparseTensorProto()
        made.CopyFrom(self.sparse)
        made.values.name = name
        return made

    def digest(self) -> str:
        """Return a hash of type, shape, values, and that they are stored sparsely."""
        if self._digest is None:
            dense = f"sparse {super().digest()}"
            self._digest = hashlib.blake2b(dense.encode(), digest_size=16).hexdigest()
        return self._digest


def sparse_bytes(tensor: Tensor) -> int:
    """Return the bytes that ``SparseTensor.of`` would store, values and indices."""
    count = len(_nonzero(np.ascontiguousarray(tensor.array()).reshape(-1)))
    return tensor.dtype.nbytes(count) + _INDEX_BYTES * count


def _nonzero(flat: Array) -> Array:
    """Return where any bit is set: -0.0 is kept, so that nothing is lost."""
    return np.flatnonzero(flat.view(np.uint8).reshape(len(flat), flat.itemsize).any(axis=1))


def check_sparse(sparse: onnx.SparseTensorProto) -> None:
    """Raise ModelError unless the message is a tensor that its indices describe.

    Indices are [values] into the flattened tensor, or [values, rank]; ascending, each once.

    Raises:
        ModelError: G203, its data lie outside the file; G205, values, indices and shape do not
            fit together; G209, the dense tensor would take more than 2 GiB.
    """
    check_values(sparse.values)
    name = f"the sparse constant `{sparse.values.name}`"
    _demand_inside(sparse, name)
    check_values(sparse.indices)
    kind = element_type(sparse.indices.data_type, sparse.values.name)
    if kind not in _INDEX_TYPES:
        raise _illegal(f"{name} has indices of type {kind.name.lower()}")
    if len(sparse.values.dims) != 1 or any(d < 0 for d in sparse.dims):
        raise _illegal(f"{name} has values of shape {list(sparse.values.dims)} in {_dims(sparse)}")
    check_room([sparse])
    count, rank = sparse.values.dims[0], len(sparse.dims)
    if tuple(sparse.indices.dims) not in {(count,), (count, rank)}:
        shape = list(sparse.indices.dims)
        raise _illegal(f"{name} has {count} values, and indices of shape {shape}")
    _check_places(sparse, name)


def check_room(sparse: Iterable[onnx.SparseTensorProto]) -> None:
    """Raise ModelError G209 where the dense tensors would take more than 2 GiB together."""
    total = 0
    for message in sparse:
        kind = element_type(message.values.data_type, message.values.name)
        total += math.prod(message.dims) * max(kind.bits // 8, 1 if kind.bits else _INDEX_BYTES)
    if total > LARGEST_BYTES:
        raise ModelError(
            f"sparse constants stand for {total} bytes, more than the 2 GiB that are expanded",
            code="G209",
            hint="every runtime would have to make them dense",
        )


def _demand_inside(sparse: onnx.SparseTensorProto, name: str) -> None:
    outside = onnx.TensorProto.EXTERNAL
    if outside in {sparse.values.data_location, sparse.indices.data_location}:
        raise ModelError(
            f"{name} has external data, which is not read",
            code="G203",
            hint="save the model with its sparse constants inside",
        )


def _check_places(sparse: onnx.SparseTensorProto, name: str) -> None:
    indices = numpy_helper.to_array(sparse.indices)
    # A bound for each column: flat indices have one, coordinates one for each axis.
    bounds = [math.prod(sparse.dims)] if indices.ndim == 1 else list(sparse.dims)
    columns = indices[:, None] if indices.ndim == 1 else indices
    for column, bound in zip(columns.T, bounds, strict=True):
        if column.size and (column.min() < 0 or column.max() >= bound):
            raise _illegal(f"{name} has an index outside of {_dims(sparse)}")
    places = linear_indices(sparse)
    if (np.diff(places) == 0).any():
        raise _illegal(f"{name} has an index twice")
    if (np.diff(places) < 0).any():
        raise _illegal(f"{name} has indices that are not in ascending order")


def linear_indices(sparse: onnx.SparseTensorProto) -> Array:
    """Return places in the flattened tensor, int64 [values]."""
    indices = numpy_helper.to_array(sparse.indices).astype(np.int64)
    if indices.ndim == 1:
        return np.asarray(indices)
    if not indices.shape[1]:  # one value of rank 0
        return np.zeros(len(indices), np.int64)
    return np.asarray(np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims)), np.int64)


def _dims(sparse: onnx.SparseTensorProto) -> str:
    return f"a tensor of shape {list(sparse.dims)}"


def _illegal(message: str) -> ModelError:
    return ModelError(message, code="G205", hint=_HINT)
