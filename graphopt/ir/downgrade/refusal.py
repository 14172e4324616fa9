"""Why a model cannot go down to an older operator set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.errors import ModelError

if TYPE_CHECKING:
    from graphopt.ir.node import Node


def refusal(node: Node, reason: str) -> ModelError:
    """Return the error that names the operator."""
    return ModelError(
        f"{node.op} `{node.label}` {reason}",
        code="G205",
        hint="export the model for that operator set, or choose a newer one",
    )
