"""What random graphs are put together with: values of known shape, some of whose axes are open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx import helper as h

from graphopt.testing import values_of
from tests.fuzzing.opsets import WRITTEN, UnavailableError, in_opset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from tests.fuzzing.choices import Choices

OPEN = "N"
"""The open dimension; only the first axis of a value that steps share may be it."""
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Item:
    """A value of the graph.

    Args:
        name: of the tensor.
        shape: sizes, the first perhaps open.
        exact: whether it is only moved input, so that no rounding can turn a comparison.
        dtype: element type; float unless it is among the whole numbers.
    """

    name: str
    shape: Shape
    exact: bool = False
    dtype: int = TensorProto.FLOAT

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
    """Draws choices and collects nodes, constants and values.

    Args:
        choices: where choices come from.
        opset: of the nodes.
        outer: the builder of the graph around this one, whose values may be read here.
    """

    choices: Choices
    opset: int = WRITTEN
    outer: Builder | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    whole: list[Item] = field(default_factory=list)
    """Values of integers and truths."""
    loose: list[Item] = field(default_factory=list)
    """Values that no step may use, because more of their axes are open: they become outputs."""
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    known: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Constants by name, in this graph and those around it."""
    sticky: bool = False
    """Whether steps go on with the last value that fits."""
    count: int = 0

    # -- choices ---------------------------------------------------------------------------

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return self.choices.pick(options)

    def number(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return self.choices.number(low, high)

    def flag(self) -> bool:
        """Return whether or not."""
        return self.choices.flag()

    def item(self, *, rank: int | None = None, least: int = 0, exact: bool = False) -> Item | None:
        """Return a value, of a rank if given; prefers recent ones, so that chains grow long."""
        fit = [
            i
            for i in self.items
            if (rank is None or i.rank == rank) and i.rank >= least and (i.exact or not exact)
        ]
        if not fit:
            return None
        return fit[-1] if self.sticky or self.flag() else self.pick(fit)

    def whole_item(self, *dtypes: int, least: int = 0) -> Item | None:
        """Return a value of integers or truths, of one of the types if given."""
        fit = [i for i in self.whole if i.rank >= least and (not dtypes or i.dtype in dtypes)]
        if not fit:
            return None
        return fit[-1] if self.flag() else self.pick(fit)

    # -- parts -----------------------------------------------------------------------------

    @property
    def root(self) -> Builder:
        """The builder of the outermost graph."""
        return self if self.outer is None else self.outer.root

    def inner(self) -> Builder:
        """Return a builder for a graph inside this one, which may read all that is known here."""
        return Builder(
            self.choices, self.opset, self, items=list(self.items), whole=list(self.whole),
            known=dict(self.known),
        )  # fmt: skip

    def attempt(self, step: Callable[[Builder], None]) -> None:
        """Take a step; leave nothing of it behind where the opset cannot say it."""
        stores = [self.nodes, self.constants, self.items, self.whole, self.loose]
        stores += [self.root.inputs, self.root.constants, self.root.items, self.root.whole]
        lengths = [len(store) for store in stores]
        try:
            step(self)
        except UnavailableError:
            for store, length in zip(stores, lengths, strict=True):
                del store[length:]

    def name(self) -> str:
        """Return a fresh name."""
        self.root.count += 1
        return f"v{self.root.count}"

    def feed(self, shape: Shape, dtype: int = TensorProto.FLOAT, *, shared: bool = True) -> Item:
        """Add an input of the outermost graph, which other steps may use if it is shared."""
        name = f"x{len(self.root.inputs)}"
        self.root.inputs.append(h.make_tensor_value_info(name, dtype, list(shape)))
        made = Item(name, shape, exact=True, dtype=dtype)
        for builder in {id(b): b for b in (self, self.root)}.values() if shared else ():
            (builder.items if dtype == TensorProto.FLOAT else builder.whole).append(made)
        return made

    def floats(self, *shape: int) -> str:
        """Add a float constant, or share one; return its name."""
        same = [k for k, v in self.known.items() if v.shape == shape and v.dtype == np.float32]
        how = self.number(0, 7) if same else 7
        if how == 0:
            return str(self.pick(same))
        name = self.name()
        values = np.asarray(values_of(name, shape), np.float32)
        return self._store(name, self.known[self.pick(same)] if how == 1 else values)

    def positive(self, *shape: int) -> str:
        """Add a float constant of values from 0.5 on."""
        name = self.name()
        return self._store(name, np.abs(np.asarray(values_of(name, shape), np.float32)) + 0.5)

    def filled(self, value: float, rank: int = 0) -> str:
        """Add a float constant of one element with this many axes."""
        return self.constant(np.full((1,) * rank, value, np.float32))

    def integers(self, *values: int, scalar: bool = False) -> str:
        """Add an int64 constant."""
        return self.constant(np.array(values[0] if scalar else list(values), np.int64))

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        """Add a constant, as an initializer or a Constant node; return its name."""
        name = self.name()
        if self.flag():
            return self._store(name, array)
        tensor = numpy_helper.from_array(np.asarray(array), name)
        self.nodes.append(h.make_node("Constant", [], [name], value=tensor))
        self.known[name] = np.asarray(array)
        return name

    def _store(self, name: str, array: np.ndarray[Any, Any]) -> str:
        owner = self if self.outer is None or self.flag() else self.root
        owner.constants.append(numpy_helper.from_array(np.asarray(array), name))
        self.known[name] = np.asarray(array)
        return name

    def call(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        return self.calls(op, inputs, outputs, **attributes)[0]

    def calls(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node of opset 17 as the builder's opset writes it; return its outputs' names."""
        names = [self.name() for _ in range(outputs)]
        given, more, added = in_opset(op, inputs, attributes, self.opset, self.known)
        given += [self.constant(np.array(values, np.int64)) for values in added.values()]
        title = f"{op.lower()} {names[0]}" if self.flag() else None
        self.nodes.append(h.make_node(op, given, names, title, **more))
        return names

    def keep(self, name: str, shape: Shape, *, exact: bool = False) -> Item:
        """Make a node's output a value that later steps may use."""
        self.items.append(Item(name, tuple(shape), exact))
        return self.items[-1]

    def keep_whole(self, name: str, shape: Shape, dtype: int) -> Item:
        """Make an output of integers or truths a value that later steps may use."""
        self.whole.append(Item(name, tuple(shape), exact=True, dtype=dtype))
        return self.whole[-1]
