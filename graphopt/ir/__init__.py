"""The graph that passes and plugins work on, and the door to ONNX files."""

from __future__ import annotations

from graphopt.ir.attributes import Attribute
from graphopt.ir.contradictions import find_contradiction
from graphopt.ir.downgrade import downgrade_opset
from graphopt.ir.extract import extract
from graphopt.ir.files import (
    from_bytes,
    load,
    save,
    serialized_size,
    source_files,
    tensor_bytes,
    to_bytes,
    write_whole,
)
from graphopt.ir.formula import evaluate_text
from graphopt.ir.function import Function
from graphopt.ir.graph import Graph
from graphopt.ir.hashing import hash_ahead, structural_hash
from graphopt.ir.inline import inline_functions
from graphopt.ir.names import separate_node_names
from graphopt.ir.node import Node, Value
from graphopt.ir.opset import newest_opset, upgrade_opset
from graphopt.ir.references import referring_bytes, temporary_folder
from graphopt.ir.shapes import infer_shapes
from graphopt.ir.sparse import SparseTensor, sparse_bytes
from graphopt.ir.splice import splice
from graphopt.ir.surgeon import from_graphsurgeon, to_graphsurgeon
from graphopt.ir.tensor import Tensor
from graphopt.ir.text import parse, to_text
from graphopt.ir.verify import verify

__all__ = [
    "Attribute",
    "Function",
    "Graph",
    "Node",
    "SparseTensor",
    "Tensor",
    "Value",
    "downgrade_opset",
    "evaluate_text",
    "extract",
    "find_contradiction",
    "from_bytes",
    "from_graphsurgeon",
    "hash_ahead",
    "infer_shapes",
    "inline_functions",
    "load",
    "newest_opset",
    "parse",
    "referring_bytes",
    "save",
    "separate_node_names",
    "serialized_size",
    "source_files",
    "sparse_bytes",
    "splice",
    "structural_hash",
    "temporary_folder",
    "tensor_bytes",
    "to_bytes",
    "to_graphsurgeon",
    "to_text",
    "upgrade_opset",
    "verify",
    "write_whole",
]
