"""What the user names as a model: read, checked, and described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.calibration.base import InputSpec
from graphopt.errors import ModelError
from graphopt.ir import Graph
from graphopt.report import ModelFacts
from graphopt.runtime import newest_supported_opset
from graphopt.types import DType

if TYPE_CHECKING:
    from os import PathLike

    ModelSource = str | PathLike[str] | bytes | Graph


def read_model(source: ModelSource) -> tuple[Graph, str]:
    """Return the graph and the name that errors and reports call it by.

    Raises:
        ModelError: G201 to G209, the model cannot be read, is illegal, or is too new.
    """
    if isinstance(source, Graph):
        graph, name = source.copy(), source.name or "graph"
    elif isinstance(source, bytes):
        graph, name = ir.from_bytes(source), "model"
    else:
        graph, name = ir.load(Path(source)), str(source)
    try:
        ir.verify(graph)
        _check_opset(graph)
    except ModelError as error:
        error.where = name if error.where in {None, graph.name} else f"{name}: {error.where}"
        raise
    return graph, name


def _check_opset(graph: Graph) -> None:
    newest = newest_supported_opset()
    if graph.opset > newest:
        raise ModelError(
            f"the model needs opset {graph.opset}; the installed onnxruntime runs up to {newest}",
            code="G206",
            hint="update onnxruntime, or export the model for an older opset",
        )


def facts(graph: Graph, name: str) -> ModelFacts:
    """Return the model in numbers; the size is that of the graph and its constants."""
    constants = [v.tensor for v in graph.initializers]
    parameters = sum(t.size for t in constants if t is not None and t.dtype.is_float | _is_small(t))
    size = Path(name).stat().st_size if Path(name).is_file() else len(ir.to_bytes(graph))
    external = sum(t.nbytes for t in constants if t is not None and t.external is not None)
    return ModelFacts(
        path=name,
        nodes=len(graph.nodes()),
        parameters=parameters,
        size_bytes=size + external,
        opset=graph.opset,
        digest=ir.structural_hash(graph),
    )


def _is_small(tensor: ir.Tensor) -> bool:
    """Whether the tensor holds quantized weights."""
    return tensor.dtype in {DType.INT8, DType.UINT8, DType.INT4, DType.UINT4}


def input_specs(graph: Graph) -> dict[str, InputSpec]:
    """Return what must be fed, by name."""
    return {
        v.name: InputSpec(v.name, v.shape, v.dtype.numpy_name if v.dtype is not None else "")
        for v in graph.feeds
    }
