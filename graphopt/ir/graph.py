"""Graph: nodes, values and stored constants, and how to change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from graphopt.errors import ModelError
from graphopt.ir.annotations import renamed
from graphopt.ir.nesting import MAX_NESTING, too_deep
from graphopt.ir.node import Node, Value
from graphopt.ir.order import topological_order
from graphopt.ir.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx

    from graphopt.ir.function import Function


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
        self.bounds: dict[str, tuple[int, int]] = {}
        self.inference: object = None
        self._inputs: dict[Value, None] = {}
        self._outputs: list[Value] = []
        self._stored: dict[Value, None] = {}
        self._nodes: dict[Node, None] = {}
        self._values: dict[str, Value] = {}
        self._inner_names: set[str] = set()
        self._levels = 0
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
        """Return ``base``, or ``base_1``, ``base_2``…: a name that means nothing here yet.

        Names of the graphs around this one and of those inside it are taken too: a name that two
        levels share would hide the outer value from the inner graph.
        """
        name = base
        while name in self._inner_names or self.lookup(name) is not None:
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
        self._register(value)
        return value

    def _register(self, value: Value) -> None:
        self._values[value.name] = value
        outer = self.parent
        while outer is not None:
            outer._inner_names.add(value.name)
            outer = outer.parent

    def enclose(self, inner: Graph) -> None:
        """Make ``inner`` a graph inside this one; its nodes may then read values from here.

        Raises:
            ModelError: G209, graphs would be nested too deep.
        """
        inner.parent = self
        outer: Graph | None = self
        levels = inner._levels
        while outer is not None:
            outer._inner_names.update(inner._values, inner._inner_names)
            levels += 1
            outer._levels = max(outer._levels, levels)
            outer = outer.parent
        if levels > MAX_NESTING:
            raise too_deep(self.root.name)

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
            for _ in range(outputs):
                self._attach_output(node, self.unique_name(f"{name or op.lower()}_out"))
        else:
            for output in outputs:
                self._attach_output(node, output)
        self._nodes[node] = None
        node.set_inputs(inputs)
        for key, value in (attributes or {}).items():
            node.set_attribute(key, value)
        return node

    def add_copy(self, node: Node, name: str) -> Node:
        """Append a node that computes the same under another name; it has no subgraphs."""
        outputs = [self.unique_name(f"{v.name}_own") if v.name else "" for v in node.outputs]
        copy = self.add_node(node.op, node.inputs, outputs, name=name, domain=node.domain)
        for attribute in node.attributes.values():
            copy.put_attribute(attribute)
        for made, value in zip(copy.outputs, node.outputs, strict=True):
            made.dtype, made.shape = value.dtype, value.shape
        return copy

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

    def detach(self, value: Value) -> None:
        """Take a value away from the node that produces it, which gets a new one in its place."""
        node, value.producer = value.producer, None
        if node is None:
            return
        index = node._outputs.index(value)
        spare = self.new_value(self.unique_name(f"{value.name}_unused"))
        spare.producer, spare.dtype, spare.shape = node, value.dtype, value.shape
        node._outputs[index] = spare

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

    def drop_constant(self, value: Value | None) -> None:
        """Remove a stored constant of this level that nobody reads; leave anything else."""
        if value is None or value.graph is not self or not value.is_initializer:
            return
        if not value.uses and not value.is_output and not value.is_input:
            self.remove_value(value)

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make everybody who reads ``old`` read ``new``; graph outputs keep their names."""
        for node, index in old.uses:
            node.set_input(index, new)
        if not old.is_output or old.is_input:
            # An input that is returned as it is has one name for both, which the caller knows.
            return
        takes_name = new.producer is not None and not new.is_output and new.graph is self
        if takes_name:
            name = old.name
            self._rename(old, self.unique_name(f"{name}_replaced"))
            self._rename(new, name)
            new.source = old.source
            new.dtype = old.dtype or new.dtype
            new.shape = new.shape if old.shape is None else old.shape
            self._outputs = [new if v is old else v for v in self._outputs]
        else:
            # An input, a constant or another output cannot change its name: copy it.
            producer = old.producer
            if producer is not None and producer.op == "Identity" and producer.inputs == (new,):
                return
            self._identity_output(old, new)

    def _identity_output(self, old: Value, new: Value) -> None:
        name = old.name
        self._rename(old, self.unique_name(f"{name}_replaced"))
        node = self.add_node("Identity", [new], [name])
        output = node.outputs[0]
        output.source, output.dtype, output.shape = old.source, old.dtype, old.shape
        self._outputs = [output if v is old else v for v in self._outputs]

    def rename(self, value: Value, name: str) -> None:
        """Rename a value; raises ModelError G205 when the name is taken, here or further in."""
        if name == value.name:
            return
        if self.lookup(name) is not None or (name in self._inner_names and self._is_inner(name)):
            raise ModelError(f"the name `{name}` is defined twice", code="G205")
        self._rename(value, name)

    def _rename(self, value: Value, name: str) -> None:
        if self.shell is not None:
            self.shell = renamed(self.shell, value.name, name)
            self.declared_at_load |= {name}
        del self._values[value.name]
        value.name = name
        self._register(value)

    def _is_inner(self, name: str) -> bool:
        return any(g.find(name) is not None for n in self.walk() for g in n.subgraphs)

    def sort(self) -> None:
        """Put the nodes in topological order, moving none that is already right."""
        ordered = topological_order(self._nodes)
        self._nodes = dict.fromkeys(ordered)

    def copy(self) -> Graph:
        """Return an independent copy; constants are shared, because they never change."""
        from graphopt.ir.clone import clone

        return clone(self, self.parent)

    def assign(self, other: Graph) -> None:
        """Become ``other``, which must not be used afterwards."""
        for key, held in vars(other).items():
            setattr(self, key, held)
        for value in self._values.values():
            value.graph = self
        for node in self._nodes:
            node.graph = self
            for output in node.outputs:
                output.graph = self
            for inner in node.subgraphs:
                inner.parent = self

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self._nodes)} nodes)"


class _Members(tuple[Value, ...]):
    """A tuple of values with a constant-time membership test."""

    _set: Mapping[Value, None]

    def __new__(cls, values: Mapping[Value, None]) -> Self:
        made = super().__new__(cls, values)
        made._set = values
        return made

    def __contains__(self, value: object) -> bool:
        return value in self._set
