"""Recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.inference.operands import rule

if TYPE_CHECKING:
    from graphopt.ir.inference.operands import Operands, Result


@rule("LSTM", "GRU", "RNN")
def recur(o: Operands) -> list[Result]:
    """All states of each direction, then the last state (and the last cell)."""
    dims = o.dims(0)
    hidden = o.attribute("hidden_size")
    weight = o.dims(2)
    if hidden is None and weight is not None and len(weight) == 3:
        hidden = weight[2]
    ways = 2 if o.attribute("direction", "forward") == "bidirectional" else 1
    first, second = (dims[0], dims[1]) if dims is not None and len(dims) == 3 else (None, None)
    if o.attribute("layout", 0):
        every, last = (first, second, ways, hidden), (first, ways, hidden)
        return [(o.dtype(0), every), (o.dtype(0), last), (o.dtype(0), last)]
    states = (first, ways, second, hidden)
    final = (ways, second, hidden)
    return [(o.dtype(0), states), (o.dtype(0), final), (o.dtype(0), final)]
