"""What is done to the product of query and key before its softmax, read backwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphopt.analysis import only_consumer, scalar
from graphopt.passes.patterns.attention_heads import lifted, lowered, unmoved
from graphopt.passes.patterns.attention_masks import Added, Chosen, Part, chosen_parts
from graphopt.passes.patterns.matching import made_by, number_beside, partner

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims, Symbols
    from graphopt.ir import Node, Value

_MOST_PARTS = 4


@dataclass(frozen=True)
class Scores:
    """softmax's operand: capped(scale * product) and the parts of a mask, the first one inside.

    Args:
        product: of query and key.
        scale: what it is multiplied by.
        cap: c of c * tanh(x / c); 0 for none.
        parts: masks in the order in which they are applied.
    """

    product: Node
    scale: float
    cap: float
    parts: tuple[Part, ...]


def read_scores(given: Value, symbols: Symbols) -> Scores | None:
    """Return what leads from a product to ``given``; each step is read by the next one alone."""
    inside = lifted(given, symbols)
    flat = inside is None
    value = given if inside is None else inside
    shape = symbols.shape(value)
    if shape is None or len(shape) not in {3, 4} or only_consumer(given) is None:
        return None
    parts: list[Part] = []
    while len(parts) < _MOST_PARTS and not flat:
        step = _unmasked(value, shape, symbols)
        if step is None:
            break
        value, part = step
        parts.insert(0, part)
    if any(isinstance(p, Chosen) for p in parts[1:]):
        # What replaces a sum with an earlier mask is no sum of masks.
        return None
    inner, cap = _uncapped(value)
    plain, scale = unscaled(inner)
    plain, factor = unscaled(lowered(plain, symbols))
    product = made_by(unmoved(plain, symbols), "MatMul")
    if product is None or not _is_private(product, value):
        return None
    return Scores(product, scale * factor, cap, tuple(parts))


def _is_private(product: Node, last: Value) -> bool:
    """Whether nobody reads what lies between the product and ``last`` but the next operator."""
    value: Value | None = last
    while value is not None and only_consumer(value) is not None:
        node = value.producer
        if node is None or node is product:
            return node is product
        computed = [v for v in node.inputs if v is not None and v.tensor is None]
        value = node.inputs[0] if node.op == "Reshape" or len(computed) != 1 else computed[0]
    return False


def _unmasked(value: Value, shape: Dims, symbols: Symbols) -> tuple[Value, Part] | None:
    """Return the scores before one mask, and the mask."""
    if only_consumer(value) is None:
        return None
    node = made_by(value, "Add")
    for scores in node.inputs if node is not None else ():
        mask = partner(node, scores) if node is not None and scores is not None else None
        if (
            scores is None
            or mask is None
            or mask is scores
            or not _alike(symbols.shape(scores), shape)
        ):
            continue
        if _leads_to_product(scores):
            return scores, Added(mask)
    windows = _by_window(value, shape, symbols)
    if windows is not None:
        return windows
    for scores, part in chosen_parts(value):
        if _alike(symbols.shape(scores), shape) and _leads_to_product(scores):
            return scores, part
    return None


def _by_window(value: Value, shape: Dims, symbols: Symbols) -> tuple[Value, Part] | None:
    """Return scores and masks where windows of an image have an axis of their own for the sum.

    [B * W, h, T, S] becomes [B, W, h, T, S], a constant [1, W, 1, T, S] is added, and back.
    """
    outer = made_by(value, "Reshape")
    node = made_by(outer.inputs[0], "Add") if outer is not None else None
    for wide in node.inputs if node is not None else ():
        mask = partner(node, wide) if node is not None and wide is not None else None
        inner = made_by(wide, "Reshape")
        apart = symbols.shape(wide)
        if mask is None or mask.tensor is None or inner is None or inner.inputs[0] is None:
            continue
        if apart is None or len(apart) != 5 or symbols.shape(inner.inputs[0]) != shape:
            continue
        fits = mask.tensor.shape == (1, apart[1], 1, *shape[2:]) and apart[2:] == shape[1:]
        if fits and isinstance(shape[0], int) and mask.tensor.size:
            return inner.inputs[0], Added(mask, shape[0])
    return None


def _alike(one: Dims | None, other: Dims) -> bool:
    """Whether a sum with a mask adds nothing but, perhaps, columns."""
    return one is not None and len(one) == len(other) and one[:3] == other[:3]


_ELEMENTWISE = ("Add", "Mul", "Div", "Tanh", "Where", "Identity", "Reshape")


def _leads_to_product(value: Value) -> bool:
    """Whether a product of two computed tensors is where the scores come from, steps away."""
    front = [value]
    for _ in range(12):
        if any(_is_product(v) for v in front):
            return True
        nodes = [n for v in front if (n := made_by(v, *_ELEMENTWISE)) is not None]
        front = [v for n in nodes for v in n.inputs if v is not None and v.tensor is None][:8]
    return False


def _is_product(value: Value) -> bool:
    node = made_by(value, "MatMul")
    return node is not None and all(v is not None and v.tensor is None for v in node.inputs)


def _uncapped(value: Value) -> tuple[Value, float]:
    """Return x and c of c * tanh(x / c); 0 for c where there is no such bound."""
    outer = made_by(value, "Mul")
    if outer is None:
        return value, 0.0
    for bounded in outer.inputs:
        cap = number_beside(partner(outer, bounded), bounded) if bounded is not None else None
        tanh = made_by(bounded, "Tanh")
        if cap is None or cap <= 0 or tanh is None or tanh.inputs[0] is None:
            continue
        inner, factor = _scaled(made_by(tanh.inputs[0], "Mul", "Div"))
        if inner is not None and factor is not None and abs(factor * cap - 1.0) < 1e-6:
            return inner, cap
    return value, 0.0


def unscaled(value: Value | None) -> tuple[Value | None, float]:
    """Return what a chain of products with numbers scales, and by how much."""
    factor = 1.0
    while (node := made_by(value, "Mul", "Div")) is not None:
        inner, number = _scaled(node)
        if inner is None or not number:
            break
        factor *= number
        value = inner
    return value, factor


def _scaled(node: Node | None) -> tuple[Value | None, float | None]:
    """Return the operand that a Mul or Div scales by a number, and the factor."""
    if node is None or len(node.inputs) != 2:
        return None, None
    first, second = node.inputs
    for operand, constant in ((first, second), (second, first)):
        number = scalar(constant) if constant is not None else None
        if number is None or operand is None or operand.tensor is not None:
            continue
        if number_beside(constant, operand) is None or (node.op == "Div" and operand is second):
            return None, None
        if node.op == "Mul":
            return operand, number
        return operand, 1.0 / number if number else None
    return None, None


def with_scale(scores: Scores, factor: float) -> Scores:
    """Return scores of which query or key was scaled too."""
    return replace(scores, scale=scores.scale * factor)


def guarded(softmax: Node) -> tuple[Value, bool]:
    """Return the weights that are used, and whether NaN among them became 0.

    torch's safe softmax is exported as Where(IsNaN(w), 0, w).
    """
    weights = softmax.outputs[0]
    readers = {n.op: n for n in weights.consumers if not n.domain and n.graph is softmax.graph}
    if weights.is_output or len(weights.uses) != 2 or set(readers) != {"IsNaN", "Where"}:
        return weights, False
    test, choice = readers["IsNaN"].outputs[0], readers["Where"]
    if list(choice.inputs[::2]) != [test, weights] or scalar(choice.inputs[1]) != 0.0:
        return weights, False
    zero = choice.inputs[1]
    plain = zero is not None and zero.tensor is not None and len(zero.tensor.shape) <= 1
    if not plain or only_consumer(test) is None:
        return weights, False
    return choice.outputs[0], True
