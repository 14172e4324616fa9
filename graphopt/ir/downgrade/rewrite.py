"""Take a graph down to an older default operator set, one change of an operator at a time.

Every change of an operator between two versions was read: most add element types, some add an
attribute whose default is the old behaviour, and the others have a rule in `changes`. Afterwards
each node is held against the old operator's own definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.defs

from graphopt.errors import ModelError
from graphopt.ir.downgrade.changes import CHANGES
from graphopt.ir.downgrade.expand import expand_new_operators
from graphopt.ir.downgrade.fit import make_fit
from graphopt.ir.downgrade.refusal import refusal
from graphopt.ir.downgrade.settle import settle_operands
from graphopt.ir.inference import inference_of
from graphopt.ir.inline import inline_functions
from graphopt.ir.shapes import infer_shapes

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node

OLDEST = 9
"""What operators meant before was not gone through."""

_NEWEST = 26
"""What operators mean after was not gone through."""


def downgrade_opset(graph: Graph, version: int) -> None:
    """Rewrite ``graph`` for an older default operator set, in place; on an error nothing changes.

    Raises:
        ModelError: G205, an operator has no equal in the older set; the message names it.
    """
    if graph.opset <= version:
        return
    if version < OLDEST or graph.opset > _NEWEST:
        raise ModelError(
            f"opset {graph.opset} is not rewritten as {version}",
            code="G205",
            hint=f"versions {OLDEST} to {_NEWEST} are",
        )
    made = graph.copy()
    # A definition that the model brings itself would need a rewriting of its own.
    inline_functions(made)
    expand_new_operators(made, version)
    if made.functions:
        raise ModelError(
            f"the local function `{made.functions[0].name}` is not rewritten", code="G205"
        )
    infer_shapes(made)
    settle_operands(made)
    for node in list(made.walk()):
        if node.domain == "":
            _take_down(node, made.opset, version)
    for level in [made, *(g for n in made.walk() for g in n.subgraphs)]:
        level.sort()
    made.opsets = {k or "": v for k, v in made.opsets.items() if k != "ai.onnx"} | {"": version}
    inference = inference_of(made, write=True)
    for node in made.walk():
        if node.domain == "":
            make_fit(node, version, graph.opset, inference)
    graph.assign(made)


def _take_down(node: Node, current: int, version: int) -> None:
    """Undo the changes of a node's operator, the newest first; go on with what takes its place."""
    waiting = [(node, current)]
    while waiting:
        node, at = waiting.pop()
        while (since := _since(node, at)) > version:
            change = CHANGES.get((node.op, since))
            at = since - 1
            made = change(node, version) if change is not None else None
            if made is not None:
                waiting += [(n, at) for n in made]
                break


def _since(node: Node, at: int) -> int:
    if not onnx.defs.has(node.op, at, ""):
        raise refusal(node, "is not in that operator set")
    return int(onnx.defs.get_schema(node.op, at, "").since_version)
