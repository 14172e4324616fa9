"""Serialize a model whose large constants stay in the files that they already lie in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from graphopt.ir import spill
from graphopt.ir.files import MAX_PROTOBUF_BYTES, serialized, stored_tensors
from graphopt.ir.serde import model_from_graph

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.tensor import Tensor

LEAST_REFERRED = 1024
"""Smaller tensors go inside: they may be shapes, which runtimes look at when they read a model."""
_ROOM_FOR_GRAPH = 64 << 20


def referring_bytes(graph: Graph) -> tuple[bytes, Path] | None:
    """Serialize with constants on disk referred to; return bytes and the folder they refer from.

    Nothing is written or copied, so what is returned is of the size of the graph and of the
    constants in memory. None where no constant lies in a file, where the files have no folder in
    common, and where the rest is too large for a protobuf.
    """
    held = {id(t): t for t in stored_tensors(graph)}.values()
    outside = [t.external for t in held if t.external is not None and _is_referred(t)]
    if not outside:
        return None
    inside = sum(t.nbytes for t in held if not _is_referred(t))
    try:
        folder = Path(os.path.commonpath([e.path.parent for e in outside]))
    except ValueError:  # on different drives
        return None
    if inside > MAX_PROTOBUF_BYTES - _ROOM_FOR_GRAPH:
        return None

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        return _reference(name, tensor, folder) if _is_referred(tensor) else tensor.to_proto(name)

    return serialized(model_from_graph(graph, encode)), folder


def temporary_folder(graph: Graph) -> Path | None:
    """Return where the constants on disk lie, when all do in graphopt's own temporary files."""
    outside = [t.external.path for t in stored_tensors(graph) if t.external is not None]
    return spill.folder_of(outside) if outside else None


def _is_referred(tensor: Tensor) -> bool:
    return tensor.external is not None and tensor.nbytes >= LEAST_REFERRED


def _reference(name: str, tensor: Tensor, folder: Path) -> onnx.TensorProto:
    external = tensor.external
    assert external is not None
    header = tensor.header(name)
    header.data_location = onnx.TensorProto.EXTERNAL
    location = external.path.relative_to(folder).as_posix()
    entries = {"location": location, "offset": external.offset, "length": external.length}
    for key, value in entries.items():
        header.external_data.add(key=key, value=str(value))
    return header
