"""What random graphs are put together with: values of known shape, one of whose axes is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx import helper as h

from graphopt.testing import values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

OPEN = "N"
"""The open dimension; only the first axis of a value may be it."""
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Item:
    """A float value of the graph.

    Args:
        name: of the tensor.
        shape: sizes, the first perhaps open.
        exact: whether it is only moved input, so that no rounding can turn a comparison.
    """

    name: str
    shape: Shape
    exact: bool = False

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def inner(self) -> tuple[int, ...]:
        """The sizes behind the first axis, which are all known."""
        return tuple(int(d) for d in self.shape[1:])

    def at(self, axis: int) -> int | str:
        """Return the size of an axis."""
        return self.shape[axis]


@dataclass
class Builder:
    """Draws choices and collects nodes, constants and values."""

    draw: st.DrawFn
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    # -- choices ---------------------------------------------------------------------------

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return self.draw(st.sampled_from(list(options)))

    def number(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        """Return whether or not."""
        return self.draw(st.booleans())

    def item(self, *, rank: int | None = None, least: int = 0, exact: bool = False) -> Item | None:
        """Return a value, of a rank if given; prefers recent ones, so that chains grow long."""
        fit = [
            i
            for i in self.items
            if (rank is None or i.rank == rank) and i.rank >= least and (i.exact or not exact)
        ]
        if not fit:
            return None
        return fit[-1] if self.flag() else self.pick(fit)

    # -- parts -----------------------------------------------------------------------------

    def name(self) -> str:
        """Return a fresh name."""
        self.count += 1
        return f"v{self.count}"

    def feed(self, shape: Shape) -> Item:
        """Add a graph input."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(h.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        self.items.append(Item(name, shape, exact=True))
        return self.items[-1]

    def floats(self, *shape: int) -> str:
        """Add a float constant with values that depend on its name alone; return its name."""
        name = self.name()
        return self._store(name, np.asarray(values_of(name, shape), np.float32))

    def positive(self, *shape: int) -> str:
        """Add a float constant of values from 0.5 on."""
        name = self.name()
        return self._store(name, np.abs(np.asarray(values_of(name, shape), np.float32)) + 0.5)

    def filled(self, value: float, rank: int = 0) -> str:
        """Add a float constant of one element with this many axes."""
        return self._store(self.name(), np.full((1,) * rank, value, np.float32))

    def integers(self, *values: int, scalar: bool = False) -> str:
        """Add an int64 constant, as an initializer or a Constant node."""
        array = np.array(values[0] if scalar else list(values), np.int64)
        name = self.name()
        if self.flag():
            return self._store(name, array)
        tensor = numpy_helper.from_array(array, name)
        self.nodes.append(h.make_node("Constant", [], [name], value=tensor))
        return name

    def _store(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def call(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        return self.calls(op, inputs, outputs, **attributes)[0]

    def calls(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(h.make_node(op, list(inputs), names, **attributes))
        return names

    def keep(self, name: str, shape: Shape, *, exact: bool = False) -> Item:
        """Make a node's output a value that later steps may use."""
        self.items.append(Item(name, tuple(shape), exact))
        return self.items[-1]
