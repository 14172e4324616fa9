"""Value and Node: tensors and operator applications of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.errors import ModelError
from graphopt.ir.attributes import Attribute
from graphopt.ir.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from graphopt.ir.graph import Graph
    from graphopt.ir.tensor import Array
    from graphopt.types import DType, Shape


class Value:
    """A tensor of the graph: produced by one node, fed from outside, or constant.

    ``dtype`` and ``shape`` are None where they are not known.
    """

    __slots__ = ("_tensor", "_uses", "dtype", "graph", "name", "producer", "shape", "source")

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name
        self.dtype: DType | None = None
        self.shape: Shape | None = None
        self.producer: Node | None = None
        self.source: onnx.ValueInfoProto | None = None
        self._tensor: Tensor | None = None
        self._uses: dict[tuple[Node, int], None] = {}

    @property
    def uses(self) -> tuple[tuple[Node, int], ...]:
        """Every (node, input position) that reads this value, inner graphs included."""
        return tuple(self._uses)

    @property
    def consumers(self) -> tuple[Node, ...]:
        """The distinct nodes that read this value."""
        return tuple(dict.fromkeys(node for node, _ in self._uses))

    @property
    def is_input(self) -> bool:
        """Whether the caller of the graph feeds it."""
        return self in self.graph.inputs

    @property
    def is_output(self) -> bool:
        """Whether the graph returns it."""
        return self in self.graph.outputs

    @property
    def is_initializer(self) -> bool:
        """Whether it is stored with the graph; a graph input of that name may override it."""
        return self._tensor is not None

    @property
    def tensor(self) -> Tensor | None:
        """The constant that nobody can override: an initializer or a Constant node's output."""
        if self._tensor is not None:
            # Before IR version 4 every initializer had to be listed as an input: not an override.
            return self._tensor if self.graph.root.ir_version < 4 or not self.is_input else None
        producer = self.producer
        if producer is not None and producer.op == "Constant" and not producer.domain:
            return producer.constant_tensor()
        return None

    @property
    def stored(self) -> Tensor | None:
        """What the graph stores for it, whether or not a graph input may override that."""
        return self._tensor

    @property
    def is_constant(self) -> bool:
        """Whether its value is known before the graph runs."""
        return self.tensor is not None

    def array(self) -> Array:
        """Return the constant's values, read-only."""
        tensor = self.tensor
        if tensor is None:
            raise ModelError(f"`{self.name}` is not a constant", code="G205")
        return tensor.array()

    def __repr__(self) -> str:
        kind = self.dtype.name.lower() if self.dtype else "?"
        return f"Value({self.name}: {kind}{list(self.shape) if self.shape is not None else ''})"


class Node:
    """One operator application."""

    __slots__ = ("_attributes", "_inputs", "_outputs", "domain", "graph", "name", "op", "source")

    def __init__(self, graph: Graph, op: str, domain: str = "", name: str = "") -> None:
        self.graph = graph
        self.op = op
        self.domain = "" if domain == "ai.onnx" else domain
        self.name = name
        self.source: onnx.NodeProto | None = None
        self._inputs: list[Value | None] = []
        self._outputs: list[Value] = []
        self._attributes: dict[str, Attribute] = {}

    @classmethod
    def apart(
        cls,
        like: Node,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[Value],
        **attributes: Any,
    ) -> Node:
        """Return a node named as ``like`` that no graph holds and no value knows of.

        It describes what a runtime does in the place of ``like``, with the graph left as it is.
        """
        made = cls(like.graph, op, name=like.label)
        made._inputs = list(inputs)
        made._outputs = list(outputs)
        for name, value in attributes.items():
            made.set_attribute(name, value)
        return made

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """Inputs by position; None where an optional one is omitted."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Outputs by position; an omitted optional one has an empty name."""
        return tuple(self._outputs)

    @property
    def label(self) -> str:
        """What messages call it: its name, or that of its first output, or its operator."""
        return self.name or (self._outputs[0].name if self._outputs else self.op)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the attributes that are set."""
        return tuple(self._attributes)

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """The attributes as stored."""
        return self._attributes

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        """The graphs among the attributes: bodies and branches."""
        return tuple([g for a in self._attributes.values() if a.graphs for g in a.graphs])

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a Python value: int, float, str, list, Tensor or Graph."""
        found = self._attributes.get(name)
        return default if found is None else found.value()

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute; ``None`` removes it."""
        if value is None:
            self._attributes.pop(name, None)
        else:
            self.put_attribute(Attribute.encode(name, value))

    def put_attribute(self, attribute: Attribute) -> None:
        """Set an attribute that is already encoded; graphs in it become inner graphs."""
        self._attributes[attribute.name] = attribute
        for inner in attribute.graphs:
            self.graph.enclose(inner)

    def set_input(self, index: int, value: Value | None) -> None:
        """Connect input ``index`` to ``value``; positions before it are left empty if missing."""
        while len(self._inputs) <= index:
            self._inputs.append(None)
        old = self._inputs[index]
        if old is not None:
            old._uses.pop((self, index), None)
        self._inputs[index] = value
        if value is not None:
            value._uses[(self, index)] = None

    def set_inputs(self, values: Sequence[Value | None]) -> None:
        """Replace all inputs."""
        for index in range(len(self._inputs)):
            self.set_input(index, None)
        self._inputs.clear()
        for index, value in enumerate(values):
            self.set_input(index, value)

    def constant_tensor(self) -> Tensor | None:
        """Return what a Constant node holds; None when it is sparse or strings."""
        for key, attribute in self._attributes.items():
            if key == "value":
                held = attribute.value()
                return held if isinstance(held, Tensor) else None
            if key in {"value_float", "value_int", "value_floats", "value_ints"}:
                kind = "float32" if "float" in key else "int64"
                import numpy as np

                return Tensor.from_array(np.array(attribute.value(), dtype=kind))
        return None

    def __repr__(self) -> str:
        return f"Node({self.op} {self.name!r})"
