"""Graph, Node and Value: the vocabulary that passes and plugins speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.errors import ModelError
from graphopt.ir.attributes import Attribute
from graphopt.ir.order import topological_order
from graphopt.ir.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx

    from graphopt.ir.function import Function
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
        if self.producer is not None and self.producer.op == "Constant":
            return self.producer.constant_tensor()
        return None

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

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """Inputs by position; None where an optional one is omitted."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Outputs by position; an omitted optional one has an empty name."""
        return tuple(self._outputs)

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
        return tuple(g for a in self._attributes.values() for g in a.graphs)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a Python value: int, float, str, list, Tensor or Graph."""
        found = self._attributes.get(name)
        return default if found is None else found.value()

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute; ``None`` removes it."""
        if value is None:
            self._attributes.pop(name, None)
        else:
            self._attributes[name] = Attribute.encode(name, value)

    def put_attribute(self, attribute: Attribute) -> None:
        """Set an attribute that is already encoded."""
        self._attributes[attribute.name] = attribute

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


class Graph:
    """A mutable ONNX graph; also carries the model-level facts when it is the outermost one."""

    def __init__(self, name: str = "graph", parent: Graph | None = None) -> None:
        self.name = name
        self.parent = parent
        self.opsets: dict[str, int] = {}
        self.ir_version = 10
        self.functions: tuple[Function, ...] = ()
        self.metadata: dict[str, str] = {}
        self.shell: onnx.GraphProto | None = None
        self.model_shell: onnx.ModelProto | None = None
        self.value_infos: list[onnx.ValueInfoProto] = []
        self.declared_at_load: frozenset[str] = frozenset()
        self._inputs: dict[Value, None] = {}
        self._outputs: list[Value] = []
        self._stored: dict[Value, None] = {}
        self._nodes: dict[Node, None] = {}
        self._values: dict[str, Value] = {}
        self._counter = 0

    # -- reading ---------------------------------------------------------------------------

    @property
    def root(self) -> Graph:
        """The outermost graph."""
        graph = self
        while graph.parent is not None:
            graph = graph.parent
        return graph

    @property
    def opset(self) -> int:
        """Version of the default operator set; 1 when the model imports none."""
        opsets = self.root.opsets
        return opsets.get("", opsets.get("ai.onnx", 1))

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What the caller feeds, initializers that may be overridden included."""
        return _Members(self._inputs)

    @property
    def feeds(self) -> tuple[Value, ...]:
        """What the caller must feed: the inputs that have no stored value."""
        return tuple(v for v in self._inputs if not v.is_initializer)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What the graph returns."""
        return tuple(self._outputs)

    @property
    def initializers(self) -> tuple[Value, ...]:
        """Values that are stored with the graph, in file order."""
        return tuple(self._stored)

    def nodes(self, *ops: str) -> list[Node]:
        """Return the nodes of this level in order; only those operators when any are named."""
        if not ops:
            return list(self._nodes)
        return [n for n in self._nodes if n.op in ops]

    def walk(self) -> Iterator[Node]:
        """Yield the nodes of this graph and of every graph inside it."""
        stack = [iter(list(self._nodes))]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node
            stack.extend(iter(list(g._nodes)) for g in node.subgraphs)

    def values(self) -> tuple[Value, ...]:
        """Return every value that this level defines."""
        return tuple(self._values.values())

    def value(self, name: str) -> Value:
        """Return a value by name; raises ModelError G205 when there is none."""
        found = self.find(name)
        if found is None:
            raise ModelError(f"the graph has no tensor `{name}`", code="G205")
        return found

    def find(self, name: str) -> Value | None:
        """Return a value by name, or None."""
        return self._values.get(name)

    def lookup(self, name: str) -> Value | None:
        """Return the value that ``name`` means here: this level first, then the ones around it."""
        graph: Graph | None = self
        while graph is not None:
            found = graph._values.get(name)
            if found is not None:
                return found
            graph = graph.parent
        return None

    def unique_name(self, base: str) -> str:
        """Return ``base``, or ``base_1``, ``base_2``…: a name that no value or node here has."""
        taken = self._values
        name = base
        while name in taken or (self.parent is not None and self.lookup(name) is not None):
            self._counter += 1
            name = f"{base}_{self._counter}"
        return name

    # -- building --------------------------------------------------------------------------

    def new_value(self, name: str) -> Value:
        """Define a value; raises ModelError G205 when the name is taken."""
        if name in self._values:
            raise ModelError(
                f"the name `{name}` is defined twice",
                code="G205",
                hint="every tensor of an ONNX graph has one producer (SSA)",
            )
        value = Value(self, name)
        self._values[name] = value
        return value

    def add_input(self, value: Value) -> None:
        """Append a graph input."""
        self._inputs[value] = None

    def remove_input(self, value: Value) -> None:
        """Drop a graph input; the value itself stays."""
        self._inputs.pop(value, None)

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Replace the list of graph outputs."""
        self._outputs = list(values)

    def add_constant(self, name: str, data: Any) -> Value:
        """Store a constant under a name made unique; ``data`` is a Tensor or array-like."""
        value = self.new_value(self.unique_name(name))
        self.set_tensor(value, data if isinstance(data, Tensor) else Tensor.from_array(data))
        return value

    def set_tensor(self, value: Value, tensor: Tensor | None) -> None:
        """Give a value its stored constant, or take it away."""
        value._tensor = tensor
        if tensor is None:
            self._stored.pop(value, None)
        else:
            self._stored[value] = None
            value.dtype, value.shape = tensor.dtype, tensor.shape

    def add_node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: int | Sequence[str | Value] = 1,
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
        domain: str = "",
    ) -> Node:
        """Append a node; call ``sort`` afterwards if its consumers come earlier."""
        node = Node(self, op, domain, name if name is not None else "")
        if isinstance(outputs, int):
            base = name or op.lower()
            outputs = [self.unique_name(f"{base}_out") for _ in range(outputs)]
        for output in outputs:
            self._attach_output(node, output)
        self._nodes[node] = None
        node.set_inputs(inputs)
        for key, value in (attributes or {}).items():
            node.set_attribute(key, value)
        return node

    def _attach_output(self, node: Node, output: str | Value) -> None:
        if isinstance(output, Value):
            value = output
        elif output == "":
            value = Value(self, "")
        else:
            value = self.new_value(output)
        value.producer = node
        node._outputs.append(value)

    def adopt(self, node: Node) -> None:
        """Append a node that was built elsewhere for this graph."""
        self._nodes[node] = None

    # -- changing --------------------------------------------------------------------------

    def remove(self, node: Node) -> None:
        """Remove a node whose outputs nobody uses any more, with the values it defined."""
        for inner in [n for g in node.subgraphs for n in g.walk()]:
            inner.set_inputs(())
        node.set_inputs(())
        for output in node.outputs:
            if output.producer is node:
                output.producer = None
                if self._values.get(output.name) is output:
                    del self._values[output.name]
        del self._nodes[node]

    def remove_value(self, value: Value) -> None:
        """Remove a constant or input that nobody uses."""
        self._inputs.pop(value, None)
        self._stored.pop(value, None)
        if self._values.get(value.name) is value:
            del self._values[value.name]

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make everybody who reads ``old`` read ``new``; graph outputs keep their names."""
        for node, index in old.uses:
            node.set_input(index, new)
        if not old.is_output:
            return
        takes_name = new.producer is not None and not new.is_output and new.graph is self
        if takes_name:
            name = old.name
            self.rename(old, self.unique_name(f"{name}_replaced"))
            self.rename(new, name)
            new.source = old.source
            new.dtype, new.shape = old.dtype or new.dtype, old.shape or new.shape
            self._outputs = [new if v is old else v for v in self._outputs]
        else:
            # An input, a constant or another output cannot change its name: copy it.
            producer = old.producer
            if producer is not None and producer.op == "Identity" and producer.inputs == (new,):
                return
            self._identity_output(old, new)

    def _identity_output(self, old: Value, new: Value) -> None:
        name = old.name
        self.rename(old, self.unique_name(f"{name}_replaced"))
        node = self.add_node("Identity", [new], [name])
        output = node.outputs[0]
        output.source, output.dtype, output.shape = old.source, old.dtype, old.shape
        self._outputs = [output if v is old else v for v in self._outputs]

    def rename(self, value: Value, name: str) -> None:
        """Rename a value; raises ModelError G205 when the name is taken."""
        if name == value.name:
            return
        if name in self._values:
            raise ModelError(f"the name `{name}` is defined twice", code="G205")
        del self._values[value.name]
        value.name = name
        self._values[name] = value

    def sort(self) -> None:
        """Put the nodes in topological order, moving none that is already right."""
        ordered = topological_order(self._nodes)
        self._nodes = dict.fromkeys(ordered)

    def copy(self) -> Graph:
        """Return an independent copy; constants are shared, because they never change."""
        from graphopt.ir.clone import clone

        return clone(self)

    def assign(self, other: Graph) -> None:
        """Become ``other``, which must not be used afterwards."""
        for key, value in vars(other).items():
            setattr(self, key, value)
        for held in [*self._values.values(), *self._nodes]:
            held.graph = self
        for node in self._nodes:
            for output in node.outputs:
                output.graph = self
            for inner in node.subgraphs:
                inner.parent = self

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self._nodes)} nodes)"


class _Members(tuple[Value, ...]):
    """A tuple of values with a constant-time membership test."""

    _set: Mapping[Value, None]

    def __new__(cls, values: Mapping[Value, None]) -> _Members:
        made = super().__new__(cls, values)
        made._set = values
        return made

    def __contains__(self, value: object) -> bool:
        return value in self._set
