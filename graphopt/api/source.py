"""What the user names as a model: read, checked, and described."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.sizes import set_sizes
from graphopt.calibration.base import InputSpec
from graphopt.cost.size import file_bytes
from graphopt.errors import DataError, ModelError
from graphopt.ir import Graph
from graphopt.report import ModelFacts
from graphopt.runtime import newest_supported_opset
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from graphopt.recipe import ModelSizes

    ModelSource = str | PathLike[str] | bytes | Graph


MAX_INPUT_BYTES = 2 << 30
"""What one sample of one input may take; onnx itself passes tensors of that size and no larger."""


def read_model(source: ModelSource, sizes: ModelSizes | None = None) -> tuple[Graph, str]:
    """Return the graph and the name that errors and reports call it by.

    Args:
        source: a file, its bytes, or a graph, which is not changed.
        sizes: what the model leaves open and is to be fixed or bounded.

    Raises:
        ModelError: G201 to G209, the model cannot be read, is illegal, or is too new; G218, it
            cannot have the sizes.
    """
    if isinstance(source, Graph):
        graph, name = source.copy(), source.name or "graph"
    elif isinstance(source, bytes):
        graph, name = ir.from_bytes(source), "model"
    else:
        graph, name = ir.load(Path(source)), str(source)
        ir.hash_ahead(graph)
    with naming(name, graph):
        ir.verify(graph)
        _check_opset(graph)
        if sizes:
            set_sizes(graph, sizes)
        _check_inputs(graph)
    # Legal in ONNX, refused by onnxruntime.
    ir.separate_node_names(graph)
    return graph, name


@contextlib.contextmanager
def naming(name: str, graph: Graph) -> Iterator[None]:
    """Put the model's name into the place of every ModelError raised inside."""
    try:
        yield
    except ModelError as error:
        if error.where in {None, graph.name}:
            error.where = name
        elif not str(error.where).startswith(name):
            error.where = f"{name}: {error.where}"
        raise


def _check_opset(graph: Graph) -> None:
    newest = newest_supported_opset()
    if graph.opset > newest:
        raise ModelError(
            f"the model needs opset {graph.opset}; the installed onnxruntime runs up to {newest}",
            code="G206",
            hint="update onnxruntime, or export the model for an older opset",
        )


def _check_inputs(graph: Graph) -> None:
    """Refuse inputs so large that no machine could feed them."""
    for value in graph.feeds:
        sizes = [d for d in value.shape or () if isinstance(d, int)]
        nbytes = value.dtype.nbytes(math.prod(sizes)) if value.dtype is not None else 0
        if nbytes > MAX_INPUT_BYTES or any(d < 0 for d in sizes):
            raise ModelError(
                f"input `{value.name}` is declared with the shape {list(value.shape or ())}, "
                "which nothing can hold",
                code="G209",
                hint=f"one sample may take {MAX_INPUT_BYTES >> 30} GiB",
            )


def facts(graph: Graph, name: str) -> ModelFacts:
    """Return the model in numbers; the size is that of the graph and its constants."""
    constants = [v.stored for v in graph.initializers]
    parameters = sum(t.size for t in constants if t is not None and t.dtype.is_float | _is_small(t))
    if not Path(name).is_file():
        size = file_bytes(graph)
    else:
        outside = (t for t in constants if t is not None and t.external is not None)
        size = Path(name).stat().st_size + sum(
            # What has an owner was inside the file, or was computed.
            t.nbytes
            for t in outside
            if t.external is not None and t.external.owner is None
        )
    return ModelFacts(
        path=name,
        nodes=len(graph.nodes()),
        parameters=parameters,
        size_bytes=size,
        opset=graph.opset,
        digest=ir.structural_hash(graph),
    )


def _is_small(tensor: ir.Tensor) -> bool:
    """Whether the tensor holds quantized weights."""
    return tensor.dtype in {DType.INT8, DType.UINT8, DType.INT4, DType.UINT4}


def input_specs(graph: Graph) -> dict[str, InputSpec]:
    """Return what must be fed, by name.

    Raises:
        DataError: G212, an input is no tensor, so no data can be read for it.
    """
    for value in graph.feeds:
        if value.dtype is None:
            raise DataError(
                f"input `{value.name}` is a sequence, a map or of unknown type: "
                "no data can be read for it",
                code="G212",
                where=f"input `{value.name}`",
                hint="leave the data out: the model is then optimised losslessly",
            )
    return {
        v.name: InputSpec(v.name, v.shape, v.dtype.numpy_name, dict(graph.bounds))
        for v in graph.feeds
        if v.dtype is not None
    }
