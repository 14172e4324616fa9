"""Float kernels: which operators onnxruntime executes together, and in which layout.

One pass in the order of the graph, as the runtime's own optimiser goes. What it does was found by
giving it small models one by one (onnxruntime 1.31.1); tests/unit/cost/test_executed.py holds it
against the graphs that the runtime really executes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis import only_consumer
from graphopt.cost.blocking import ACTIVATIONS, Blocks, have_one_shape, scales_channels
from graphopt.cost.drafts import Draft, Surroundings, other_operand, product_drafts
from graphopt.cost.patterns import find_patterns, find_splits
from graphopt.cost.shapes import dims, elements
from graphopt.ir import Node, Value
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from graphopt.ir import Graph
    from graphopt.targets.base import Target

_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"})
"""What a convolution takes in directly."""

_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def float_kernels(
    graph: Graph, target: Target, taken: AbstractSet[Node], known: Callable[[Value], bool]
) -> list[Draft]:
    """Return the kernels of everything that is not in ``taken``, in order of execution.

    Args:
        graph: with its shapes.
        target: decides the layout.
        taken: nodes that belong to other kernels, or to none.
        known: whether a value is the same in every run.
    """
    return _Pass(graph, target, taken, known).run()


class _Pass:
    """The state of one pass over a graph."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        taken: AbstractSet[Node],
        known: Callable[[Value], bool],
    ) -> None:
        self.graph = graph
        self.taken = taken
        self.known = known
        self.fused = target.runs_onnxruntime
        self.drafts: list[Draft] = []
        self.covered: set[Node] = set()
        self.makers: dict[Value, Draft] = {}
        compute = target.compute
        blocked = compute.layouts.get("float32") == "blocked"
        self.blocks = Blocks(compute.alignment.get("float32", 1) if blocked else None)
        self.patterns = find_patterns(graph, taken, known) if self.fused else {}
        self.covered.update(n for p in self.patterns.values() for n in p.nodes)
        self.splits = find_splits(graph, taken | self.covered) if self.fused else {}
        self.around = Surroundings(self._next, known, self.fused)

    def run(self) -> list[Draft]:
        for place, node in enumerate(self.graph.nodes()):
            if node in self.taken or (node in self.covered and node not in self.patterns):
                continue
            for draft in self._drafts(node, float(place)):
                self._keep(draft)
        return self.drafts

    def _drafts(self, node: Node, place: float) -> list[Draft]:
        """Return the kernels that a node begins; none where an earlier kernel takes it in."""
        pattern = self.patterns.get(node)
        if pattern is not None:
            made = Draft(pattern.node, list(pattern.nodes), pattern.name, node.outputs[0], place)
            return [self._following(made)]
        if node in self.splits:
            return _split(self.splits[node], place)
        if node.domain != "":
            return [self._plain(node, place)]
        if node.op in {"Conv", "ConvTranspose"}:
            return [self._convolution(node, place)]
        if node.op in {"MatMul", "Gemm"}:
            return product_drafts(node, place, self.around)
        if self._residual(node, place) or self._activation(node, place):
            return []
        if node.op == "HardSwish" and self.fused:
            return self._hard_swish(node, place)
        if node.op == "Transpose":
            return [self._transpose(node, place)]
        return [self._scaled(node, place) or self._plain(node, place)]

    def _plain(self, node: Node, place: float) -> Draft:
        output = node.outputs[0] if node.outputs else Value(node.graph, "")
        return self._following(Draft(node, [node], node.op, output, place))

    def _keep(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self.covered.update(draft.nodes)
        self.makers[draft.output] = draft

    def _following(self, draft: Draft) -> Draft:
        """Put a kernel into the blocked layout where it can follow that of its inputs."""
        channels = self.blocks.followed(draft.node, draft.name)
        if channels:
            draft.layout = draft.source = "blocked"
            self.blocks.channels[draft.output] = channels
        return draft

    def _next(self, node: Node) -> Node | None:
        """Return the one reader of a node's result, if it is free to be fused."""
        reader = only_consumer(node.outputs[0])
        if reader is None or reader in self.taken or reader in self.covered:
            return None
        return reader if reader.domain == "" and reader.graph is node.graph else None

    # -- convolutions ----------------------------------------------------------------------

    def _convolution(self, node: Node, place: float) -> Draft:
        nodes = [node]
        while (after := self._next(nodes[-1])) is not None and self._into_weights(after, nodes[-1]):
            nodes.append(after)
        made = Draft(node, nodes, node.op, nodes[-1].outputs[0], place)
        if node.op == "ConvTranspose":
            return made
        if self.blocks.takes(node, self.known):
            made.layout = "blocked"
            made.source = "plain" if self.blocks.reads_plain(node) else "blocked"
        if after is not None and self._is_activation(after):
            made.take(after, place)
            made.activated = True
        if made.layout == "blocked":
            self.blocks.channels[made.output] = dims(node.inputs[1])[0]
        return made

    def _into_weights(self, node: Node, before: Node) -> bool:
        if node.op == "BatchNormalization":
            return all(v is not None and self.known(v) for v in node.inputs[1:])
        if node.op not in {"Add", "Mul"} or before.op == "ConvTranspose":
            return False
        other = other_operand(node, before.outputs[0])
        if other is None or not self.known(other) or other.shape is None:
            return False
        per_channel = len(other.shape) >= 3 and other.shape[-1] == other.shape[-2] == 1
        return per_channel or elements(other) == 1

    def _is_activation(self, node: Node) -> bool:
        if node.op == "HardSwish":
            return self.fused and not node.outputs[0].is_output
        constant = all(v is None or self.known(v) for v in node.inputs[1:])
        return node.op in _ACTIVATIONS and constant

    # -- what joins a convolution ----------------------------------------------------------

    def _residual(self, node: Node, place: float) -> bool:
        """Let a convolution before an Add take it in."""
        blocked = self.blocks.of_all(node)
        if node.op not in ({"Add", "Sum"} if blocked else {"Add"}) or not have_one_shape(node):
            return False
        for value in node.inputs if len(node.inputs) == 2 else ():
            maker = self.makers.get(value) if value is not None else None
            if maker is not None and self._can_join(maker, blocked=bool(blocked)):
                maker.joined = True
                self._extend(maker, node, place, blocked[0] if blocked else 0)
                return True
        return False

    def _can_join(self, maker: Draft, *, blocked: bool) -> bool:
        if maker.node.op != "Conv" or maker.activated or maker.joined:
            return False
        if only_consumer(maker.output) is None or (maker.layout == "blocked") != blocked:
            return False
        # In the plain layout only a convolution with a bias, its own or of a normalization.
        return blocked or len(maker.node.inputs) > 2 or len(maker.nodes) > 1

    def _extend(self, maker: Draft, node: Node, place: float, channels: int) -> None:
        """Let a convolution take in a node, and in the plain layout the activation behind it."""
        maker.take(node, place)
        after = self._next(node)
        direct = after is not None and after.op in _ACTIVATIONS and self._is_activation(after)
        if after is not None and direct and not channels:
            maker.take(after, place)
            maker.activated = True
        self.covered.update(maker.nodes)
        self.makers[maker.output] = maker
        if channels:
            self.blocks.channels[maker.output] = channels

    def _activation(self, node: Node, place: float) -> bool:
        """Let a blocked convolution take in an activation that follows its residual."""
        value = node.inputs[0] if node.inputs else None
        maker = self.makers.get(value) if value is not None else None
        if node.op not in ACTIVATIONS or maker is None or not self.blocks.of(value):
            return False
        if maker.activated or maker.node.op != "Conv" or only_consumer(maker.output) is None:
            return False
        maker.activated = True
        self._extend(maker, node, place, self.blocks.of(value))
        return True

    # -- what the runtime turns into something else ------------------------------------------

    def _scaled(self, node: Node, place: float) -> Draft | None:
        """Return the depthwise convolution that a scaling in the blocked layout becomes."""
        first = node.inputs[0] if node.inputs else None
        channels = self.blocks.of(first)
        if node.op not in {"BatchNormalization", "Mul"} or not channels:
            return None
        if not scales_channels(node, channels, self.known):
            return None
        weight = Value(node.graph, "")
        weight.shape, weight.dtype = (channels, 1, 1, 1), DType.FLOAT
        product = Node.apart(node, "Conv", [first, weight], node.outputs, group=channels)
        made = Draft(product, [node], "Conv", node.outputs[0], place, "blocked", "blocked")
        self.blocks.channels[made.output] = channels
        return made

    def _transpose(self, node: Node, place: float) -> Draft:
        """Return a Transpose, or the copy between layouts that it becomes."""
        order = tuple(int(axis) for axis in node.attribute("perm", ()))
        made = Draft(node, [node], "Transpose", node.outputs[0], place)
        reader = self._next(node)
        if order == _TO_LAST and self.blocks.of(node.inputs[0]):
            made.name, made.source = "ReorderOutput", "blocked"
        elif order == _FROM_LAST and reader is not None and self._wants_blocked(reader):
            made.name, made.layout = "ReorderInput", "blocked"
            self.blocks.channels[made.output] = dims(made.output)[1]
        return made

    def _wants_blocked(self, node: Node) -> bool:
        """Whether a node is a convolution that reads the blocked layout."""
        if node.op != "Conv" or not self.blocks.takes(node, self.known):
            return False
        return not self.blocks.reads_plain(node)

    def _hard_swish(self, node: Node, place: float) -> list[Draft]:
        """Return the two operators that HardSwish is made of: it has no kernel of its own."""
        (output,) = node.outputs
        gate = Node.apart(node, "HardSigmoid", node.inputs, node.outputs)
        made = [self._following(Draft(gate, [node], "HardSigmoid", output, place))]
        product = Node.apart(node, "Mul", [node.inputs[0], output], node.outputs)
        return [*made, self._following(Draft(product, [node], "Mul", output, place + 0.5))]


def _split(parts: tuple[Node, ...], place: float) -> list[Draft]:
    """Return the one Split that several slices of a tensor become, with views for Gathers."""
    first = parts[0]
    whole = Node.apart(first, "Split", first.inputs[:1], [n.outputs[0] for n in parts])
    made = [Draft(whole, list(parts), "Split", first.outputs[0], place)]
    for node in parts if first.op == "Gather" else ():
        view = Node.apart(node, "Squeeze", node.outputs, node.outputs)
        made.append(Draft(view, [], "Squeeze", node.outputs[0], place + 0.5))
    return made
