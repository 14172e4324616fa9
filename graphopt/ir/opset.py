"""Operator set versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.defs
import onnx.version_converter

from graphopt.errors import ModelError
from graphopt.ir.serde import graph_from_model, model_from_graph

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


def newest_opset() -> int:
    """Return the newest default operator set that the installed onnx package knows."""
    return int(onnx.defs.onnx_opset_version())


def upgrade_opset(graph: Graph, version: int) -> None:
    """Rewrite ``graph`` for a newer default operator set, in place.

    Raises:
        ModelError: G205, onnx's converter has no rule for an operator of the model.
    """
    if graph.opset >= version:
        return
    model = model_from_graph(graph)
    _drop_overridable_inputs(model)
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except (RuntimeError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise ModelError(
            f"cannot rewrite opset {graph.opset} as {version}: {reason}", code="G205"
        ) from error
    converted.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(
        list(converted.opset_import), ignore_unknown=True
    ))
    for entry in model.opset_import:
        if entry.domain and not any(o.domain == entry.domain for o in converted.opset_import):
            converted.opset_import.append(entry)
    graph.assign(graph_from_model(converted))


def _drop_overridable_inputs(model: onnx.ModelProto) -> None:
    """Before IR version 4 initializers had to be inputs; from 4 on that would unfix them."""
    if model.ir_version >= 4:
        return
    stored = {t.name for t in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = 4
