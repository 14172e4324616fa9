"""Model files: read with their external data left on disk, written atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError, EncodeError

from graphopt.errors import GraphOptError, ModelError
from graphopt.ir.lifted import LEAST_TENSOR, joined, joined_size, lift
from graphopt.ir.nesting import MAX_NESTING, serialized_nesting, too_deep
from graphopt.ir.serde import graph_from_model, model_from_graph
from graphopt.ir.tensor import ExternalBytes, Tensor
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from graphopt.ir.graph import Graph

MAX_PROTOBUF_BYTES = (1 << 31) - 1
INLINE_LIMIT = 1 << 30
"""Tensors together larger than this are written beside the model, not inside it."""
KEPT_OUTSIDE = 128 << 20
"""Of a model that came with its data beside it, tensors together larger than this stay outside."""
_MIN_EXTERNAL = 1024
_ALIGNMENT = 4096


def load(path: str | Path, *, in_place: bool = False, values: bool = True) -> Graph:
    """Read a model; external data stays on disk and is memory-mapped when asked for.

    Large constants inside the file are moved to a temporary one, which goes with the graph.

    Args:
        path: the file.
        in_place: leave them where they are, for a file that stays as it is meanwhile.
        values: look for external data; without it, such constants have a type and no values.

    Raises:
        ModelError: G201 unreadable, G202 not an ONNX model, G203 external data missing or short,
            G204 external data outside the model's folder, G205 names defined twice or tensors
            that do not hold what they declare, G209 too large or nested too deep.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_PROTOBUF_BYTES:
            raise ModelError(
                f"`{path}` is larger than 2 GiB, which protobuf cannot hold",
                code="G209",
                where=str(path),
                hint="save it with external data",
            )
        lifted = lift(path, in_place=in_place)
        data, places = lifted if lifted is not None else (path.read_bytes(), {})
    except OSError as error:
        raise ModelError(
            f"cannot read `{path}`: {error.strerror or error}",
            code="G201",
            where=str(path),
            hint="give the path of an .onnx file that may be read",
        ) from error
    return _parsed(data, path.parent, str(path), places, values=values)


def from_bytes(data: bytes, folder: Path | None = None, origin: str = "model") -> Graph:
    """Read a serialized model; external data is looked for in ``folder`` only."""
    return _parsed(data, folder, origin, {})


def _parsed(
    data: bytes,
    folder: Path | None,
    origin: str,
    lifted: Mapping[str, ExternalBytes],
    *,
    values: bool = True,
) -> Graph:
    """Read a serialized model; ``lifted`` is where values lie that were inside its file."""

    def find(tensor: onnx.TensorProto) -> ExternalBytes | None:
        named = tensor.name in lifted and not tensor.external_data
        if named and tensor.data_location == onnx.TensorProto.EXTERNAL:
            return lifted[tensor.name]
        return locate(tensor, folder) if values else None

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        if not model.HasField("graph") or not (model.graph.node or model.graph.output):
            raise ModelError(
                f"`{origin}` holds no graph",
                code="G202",
                hint="give an ONNX model; data and checkpoints of other kinds are not read",
            )
        return graph_from_model(model, find)
    except GraphOptError as error:
        error.where = f"{origin}: {error.where}" if error.where else origin
        raise
    except (DecodeError, UnicodeDecodeError) as error:
        if serialized_nesting(data) > MAX_NESTING:
            raise too_deep(origin) from error
        raise ModelError(
            f"`{origin}` is not an ONNX model, or it is cut short",
            code="G202",
            where=origin,
            hint="export it again, or compare its size with the original",
        ) from error


def locate(tensor: onnx.TensorProto, folder: Path | None) -> ExternalBytes | None:
    """Find a tensor's external bytes, inside ``folder`` and nowhere else."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    path = _inside(folder, location, tensor.name)
    needed = Tensor.from_proto(tensor).nbytes
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        available = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(
            f"external data `{location}` of `{tensor.name}` cannot be read",
            code="G203",
            hint="keep the data file in the same folder as the model",
        ) from error
    if tensor.data_type == DType.STRING:
        raise ModelError(
            f"`{tensor.name}` holds strings, which cannot be external data",
            code="G203",
            hint="export it again",
        )
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
        raise ModelError(
            f"`{tensor}` has external data, but the model has no folder",
            code="G203",
            hint="load the model from its file",
        )
    base = folder.resolve()
    try:
        path = (base / location).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL in the name
        raise ModelError(
            f"external data of `{tensor}` has no usable location: `{location!r}`",
            code="G203",
            hint="the file is damaged, or whoever wrote it is at fault",
        ) from error
    if not location or not path.is_relative_to(base) or path == base:
        raise ModelError(
            f"external data of `{tensor}` points outside the model's folder: `{location}`",
            code="G204",
            hint="a model may only read files beside it; move the data there if you trust it",
        )
    return path


def to_bytes(graph: Graph) -> bytes:
    """Serialize with every value inside; raises ModelError G208 over 2 GiB."""
    _demand_room(graph)
    return serialized(model_from_graph(graph))


def serialized_size(graph: Graph) -> int:
    """Return the length of ``to_bytes``, without values that lie in files being read."""
    data, held, headers = _skeleton(graph)
    sizes = [(headers[name], tensor.nbytes) for name, tensor in held.items()]
    return joined_size(data, sizes)


def _serialized_in_pieces(graph: Graph) -> Iterator[bytes]:
    """Serialize with every value inside, those that lie in files one at a time."""
    data, held, _ = _skeleton(graph)
    yield from joined(data, held) if held else (data,)


def _skeleton(graph: Graph) -> tuple[bytes, dict[str, Tensor], dict[str, int]]:
    """Serialize without the values that lie in files.

    Returns:
        the bytes; what lies in files, by name; how long what stands for each of those is.
    """
    _demand_room(graph)
    inner = {v.name for n in graph.walk() for g in n.subgraphs for v in g.initializers}
    held = {
        v.name: v.stored
        for v in graph.initializers
        if v.stored is not None
        and v.stored.external is not None
        and v.stored.nbytes >= LEAST_TENSOR
        and v.name not in inner
    }

    headers: dict[str, int] = {}

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        if held.get(name) is not tensor:
            return tensor.to_proto(name)
        header = tensor.header(name)
        headers[name] = header.ByteSize()
        return header

    data = serialized(model_from_graph(graph, encode))
    return data, {name: held[name] for name in headers}, headers


def _demand_room(graph: Graph) -> None:
    total = tensor_bytes(graph)
    if total > MAX_PROTOBUF_BYTES - (64 << 20):
        raise ModelError(
            f"the model holds {total >> 20} MiB, too much for one protobuf",
            code="G208",
            hint="save it to a file; large constants then lie beside it",
        )


def serialized(model: onnx.ModelProto) -> bytes:
    """Serialize a message; raises ModelError G208 when it is too large for one."""
    try:
        return model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"the model cannot be serialized: {error}",
            code="G208",
            hint="a protobuf holds 2 GiB at most; use external data",
        ) from error


def tensor_bytes(graph: Graph) -> int:
    """Bytes of all stored constants, inner graphs included."""
    return sum(t.nbytes for t in {id(t): t for t in stored_tensors(graph)}.values())


def stored_tensors(graph: Graph) -> Iterator[Tensor]:
    """Yield every tensor that is stored with the graph or lies outside its file."""
    for inner in [graph, *(g for n in graph.walk() for g in n.subgraphs)]:
        for value in inner.initializers:
            assert value._tensor is not None
            yield value._tensor
    for node in graph.walk():
        for attribute in node.attributes.values():
            yield from attribute.tensors


def save(
    graph: Graph,
    path: str | Path,
    *,
    external: bool | None = None,
    beside: Mapping[Path, bytes] | None = None,
) -> list[Path]:
    """Write the model so that every file is either complete or untouched; return what was written.

    Args:
        graph: the model.
        path: the file to write; a file that the model still reads from is refused.
        external: store large constants in ``<path>.data`` beside it; by default when they are
            over 1 GiB together, or over 128 MiB where the model came with external data.
        beside: further files, which are written with the model or not at all.

    Raises:
        ModelError: G208, the file cannot be written or is an input of the model.
    """
    path = Path(path)
    if external is None:
        limit = min(INLINE_LIMIT, KEPT_OUTSIDE) if _came_outside(graph) else INLINE_LIMIT
        external = tensor_bytes(graph) > limit
    data_path = path.with_name(path.name + ".data")
    beside = beside or {}
    paths = [path, *([data_path] if external else []), *beside]
    _refuse_sources(graph, paths)
    try:
        with _replacing(*paths) as (file, *others):
            if external:
                spill = _Spill(others.pop(0), data_path.name)
                file.write(serialized(model_from_graph(graph, spill.encode)))
            else:
                file.writelines(_serialized_in_pieces(graph))
            for other, content in zip(others, beside.values(), strict=True):
                other.write(content)
        return paths
    except OSError as error:
        place = error.filename if error.filename in map(str, paths) else str(path)
        raise ModelError(
            f"cannot write `{place}`: {error.strerror or error}",
            code="G208",
            where=place,
            hint="choose another place, or make room there",
        ) from error


def _came_outside(graph: Graph) -> bool:
    """Whether the model was read with external data; constants that were computed do not count."""
    held = (t for t in stored_tensors(graph) if t.proto is not None)
    return any(t.external is not None and t.external.owner is None for t in held)


def source_files(graph: Graph) -> frozenset[Path]:
    """Return the files that constants of the graph lie in."""
    return frozenset(t.external.path for t in stored_tensors(graph) if t.external is not None)


def _refuse_sources(graph: Graph, targets: Sequence[Path]) -> None:
    sources = source_files(graph)
    for target in targets:
        if target.resolve() in sources:
            raise ModelError(
                f"`{target}` holds the weights that are being read",
                code="G208",
                where=str(target),
                hint="write to another name; inputs are never overwritten",
            )


@contextlib.contextmanager
def _replacing(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open temporary files that take the places of ``paths`` once all of them are complete."""
    staged: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            files: list[BinaryIO] = []
            for path in paths:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                handle, name = tempfile.mkstemp(
                    prefix=f".{path.name}.", suffix=".part", dir=path.parent
                )
                staged.append(Path(name))
                files.append(stack.enter_context(os.fdopen(handle, "wb")))
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        # The first file refers to the others, so it comes last.
        for temporary, path in reversed(list(zip(staged, paths, strict=True))):
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except BaseException:
        for temporary in staged:
            temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete or untouched."""
    with _replacing(path) as (file,):
        file.write(data)


class _Spill:
    """Writes large tensors to a side file, one at a time."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self.file = file
        self.location = location

    def encode(self, name: str, tensor: Tensor) -> onnx.TensorProto:
        """Return the protobuf of one initializer, its bytes written to the side file."""
        if tensor.nbytes < _MIN_EXTERNAL or tensor.dtype is DType.STRING:
            return tensor.to_proto(name)
        start = -(-self.file.tell() // _ALIGNMENT) * _ALIGNMENT
        self.file.write(b"\0" * (start - self.file.tell()))
        for piece in tensor.chunks():
            self.file.write(piece)
        header = tensor.header(name)
        header.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": self.location, "offset": start, "length": self.file.tell() - start}
        for key, value in entries.items():
            header.external_data.add(key=key, value=str(value))
        return header
