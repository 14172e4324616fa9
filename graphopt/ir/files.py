"""Model files: read with their external data left on disk, written atomically."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from graphopt.errors import GraphOptError, ModelError
from graphopt.ir.serde import graph_from_model, model_from_graph
from graphopt.ir.tensor import ExternalBytes, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from graphopt.ir.graph import Graph

MAX_PROTOBUF_BYTES = (1 << 31) - 1
INLINE_LIMIT = 1 << 30
"""Tensors together larger than this are written beside the model, not inside it."""
_MIN_EXTERNAL = 1024
_ALIGNMENT = 4096


def load(path: str | Path) -> Graph:
    """Read a model; external data stays on disk and is memory-mapped when asked for.

    Raises:
        ModelError: G201 unreadable, G202 not an ONNX model, G203 external data missing or short,
            G204 external data outside the model's folder, G205 names defined twice.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_PROTOBUF_BYTES:
            raise ModelError(
                f"`{path}` is larger than 2 GiB, which protobuf cannot hold",
                code="G209",
                hint="save it with external data",
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read `{path}`: {error.strerror or error}", code="G201", where=str(path)
        ) from error
    return from_bytes(data, folder=path.parent, origin=str(path))


def from_bytes(data: bytes, folder: Path | None = None, origin: str = "model") -> Graph:
    """Read a serialized model; external data is looked for in ``folder`` only."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"`{origin}` is not an ONNX model, or it is cut short",
            code="G202",
            where=origin,
            hint="export it again, or compare its size with the original",
        ) from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError(f"`{origin}` holds no graph", code="G202", where=origin)
    try:
        return graph_from_model(model, lambda tensor: locate(tensor, folder))
    except GraphOptError as error:
        error.where = error.where or origin
        raise


def locate(tensor: onnx.TensorProto, folder: Path | None) -> ExternalBytes | None:
    """Find a tensor's external bytes, inside ``folder`` and nowhere else."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    path = _inside(folder, location, tensor.name)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        available = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(
            f"external data `{location}` of `{tensor.name}` cannot be read",
            code="G203",
            hint="keep the data file in the same folder as the model",
        ) from error
    needed = Tensor.from_proto(tensor).nbytes
    length = needed if length < 0 else length
    if offset < 0 or length != needed or offset + length > available:
        raise ModelError(
            f"`{tensor.name}` needs {needed} bytes at offset {offset} of `{location}`, "
            f"which holds {available}",
            code="G203",
            hint="the data file belongs to another model, or was cut short",
        )
    return ExternalBytes(path, offset, length)


def _inside(folder: Path | None, location: str, tensor: str) -> Path:
    """Resolve ``location`` against ``folder``; links are followed before the check."""
    if folder is None:
        raise ModelError(f"`{tensor}` has external data, but the model has no folder", code="G203")
    base = folder.resolve()
    path = (base / location).resolve()
    if not location or not path.is_relative_to(base) or path == base:
        raise ModelError(
            f"external data of `{tensor}` points outside the model's folder: `{location}`",
            code="G204",
            hint="a model may only read files beside it; move the data there if you trust it",
        )
    return path


def to_bytes(graph: Graph) -> bytes:
    """Serialize with every value inside; raises ModelError G208 over 2 GiB."""
    total = tensor_bytes(graph)
    if total > MAX_PROTOBUF_BYTES - (64 << 20):
        raise ModelError(
            f"the model holds {total >> 20} MiB, too much for one protobuf", code="G208"
        )
    return model_from_graph(graph).SerializeToString(deterministic=True)


def tensor_bytes(graph: Graph) -> int:
    """Bytes of all stored constants, inner graphs included."""
    graphs = [graph, *(g for n in graph.walk() for g in n.subgraphs)]
    tensors = {id(v._tensor): v._tensor for g in graphs for v in g.initializers}
    return sum(t.nbytes for t in tensors.values() if t is not None)


def save(graph: Graph, path: str | Path, *, external: bool | None = None) -> list[Path]:
    """Write the model so that ``path`` is either complete or untouched; return what was written.

    Args:
        graph: the model.
        path: the file to write; a file that the model still reads from is refused.
        external: store large constants in ``<path>.data`` beside it; by default when they are
            over 1 GiB together.

    Raises:
        ModelError: G208, the file cannot be written or is an input of the model.
    """
    path = Path(path)
    if external is None:
        external = tensor_bytes(graph) > INLINE_LIMIT
    data_path = path.with_name(path.name + ".data")
    _refuse_sources(graph, (path, data_path))
    try:
        if not external:
            with _replacing(path) as file:
                file.write(to_bytes(graph))
            return [path]
        with _replacing(path) as file, _replacing(data_path) as data:
            model = model_from_graph(graph, _Spill(data, data_path.name).encode)
            file.write(model.SerializeToString(deterministic=True))
        return [path, data_path]
    except OSError as error:
        raise ModelError(
            f"cannot write `{path}`: {error.strerror or error}", code="G208", where=str(path)
        ) from error


def _refuse_sources(graph: Graph, targets: tuple[Path, ...]) -> None:
    graphs = [graph, *(g for n in graph.walk() for g in n.subgraphs)]
    sources = {
        v._tensor.external.path
        for g in graphs
        for v in g.initializers
        if v._tensor is not None and v._tensor.external is not None
    }
    for target in targets:
        if target.resolve() in sources:
            raise ModelError(
                f"`{target}` holds the weights that are being read",
                code="G208",
                hint="write to another name; inputs are never overwritten",
            )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Spill:
    """Writes large tensors to a side file, one at a time."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self.file = file
        self.location = location

    def encode(self, name: str, tensor: Tensor) -> onnx.TensorProto:
        """Return the protobuf of one initializer, its bytes written to the side file."""
        from graphopt.types import DType

        if tensor.nbytes < _MIN_EXTERNAL or tensor.dtype is DType.STRING:
            return tensor.to_proto(name)
        start = -(-self.file.tell() // _ALIGNMENT) * _ALIGNMENT
        self.file.write(b"\0" * (start - self.file.tell()))
        for piece in tensor.chunks():
            self.file.write(piece)
        header = tensor.header()
        header.name = name
        header.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": self.location, "offset": start, "length": self.file.tell() - start}
        for key, value in entries.items():
            header.external_data.add(key=key, value=str(value))
        return header
