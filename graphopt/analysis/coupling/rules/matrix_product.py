"""Matrix products: Gemm, MatMul, Einsum and what they are fused into.

All of them are one thing: operands whose axes carry labels. Axes of one label go together; a label
that the result lacks is summed over, and its axes are consumed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import MICROSOFT, operand, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value


class _Term(NamedTuple):
    """One tensor and the labels of its axes."""

    value: Value
    labels: tuple[str, ...]

    def axes(self, label: str) -> Iterable[Axis]:
        """Return the axes of a label that hold more than a broadcast element."""
        positions = (i for i, found in enumerate(self.labels) if found == label)
        return (axis for axis in (Axis(self.value, i) for i in positions) if axis.size != 1)


class _Contraction(NamedTuple):
    """A product of tensors, summed over the labels that the result lacks.

    Args:
        factors: what is multiplied.
        made: the result.
        added: what is added to the result, broadcast; None for nothing.
    """

    factors: tuple[_Term, ...]
    made: _Term
    added: _Term | None = None

    @property
    def terms(self) -> tuple[_Term, ...]:
        """Everything that has labels."""
        added = () if self.added is None else (self.added,)
        return (*self.factors, self.made, *added)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label once."""
        return tuple(dict.fromkeys(label for term in self.terms for label in term.labels))

    def fault(self) -> str:
        """Return what is wrong with it; empty when ranks and sizes fit each other."""
        if any(len(term.value.shape or ()) != len(term.labels) for term in self.terms):
            return "ranks"
        if len(set(self.made.labels)) != len(self.made.labels):
            return "labels"
        if any(len(self._sizes(label)) > 1 for label in self.labels):
            return "sizes"
        return ""

    def _sizes(self, label: str) -> set[int]:
        """Return the sizes that are known of a label, but for operands that are broadcast."""
        sizes = {axis.size for term in self.terms for axis in term.axes(label)}
        if sizes and label in self.made.labels:
            sizes.add(Axis(self.made.value, self.made.labels.index(label)).size)
        return {size for size in sizes if size is not None}


# -- rules ---------------------------------------------------------------------------------


def _couple(node: Node, links: Links, read: Callable[[Node], _Contraction | None]) -> None:
    found = read(node)
    if found is None:
        links.freeze_node(node, f"{node.op} `{node.label}` has operands that cannot be told apart")
        return
    fault = found.fault()
    if fault:
        reason = f"the {fault} around {node.op} `{node.label}` contradict each other"
        links.freeze_node(node, reason)
        return
    for label in found.labels:
        if label in found.made.labels:
            _couple_kept(node, found, label, links)
        else:
            _couple_summed(node, found, label, links)


def _couple_kept(node: Node, found: _Contraction, label: str, links: Links) -> None:
    """Couple what a label of the result is made of, and what is added to it."""
    made = Axis(found.made.value, found.made.labels.index(label))
    given = [axis for term in found.factors for axis in term.axes(label)]
    added = [] if found.added is None else list(found.added.axes(label))
    if len(given) == 1 and given[0].value.is_constant:
        bias = added[0] if added and added[0].value.is_constant else None
        links.produce(node, made, given[0], bias)
    else:
        for axis in given:
            links.tie(made, axis)
    for axis in added:
        links.tie(made, axis)
    stacked = [t for t in found.factors if label in t.labels and not t.value.is_constant]
    if len(stacked) > 1 and made.size != 1:
        links.batch(made)


def _couple_summed(node: Node, found: _Contraction, label: str, links: Links) -> None:
    """Couple the axes that are summed over; a single weight among them is the consumer's."""
    axes = [axis for term in found.factors for axis in term.axes(label)]
    weights = [axis for axis in axes if axis.value.is_constant]
    sources = [axis for axis in axes if not axis.value.is_constant]
    if len(found.factors) == 2 and len(sources) == len(weights) == 1:
        links.consume(node, sources[0], weights[0])
        return
    for axis in axes[1:]:
        links.tie(axes[0], axis)
    for axis in sources or weights:
        links.consume(node, axis)


# -- reading nodes -------------------------------------------------------------------------


def _batch(axes: int) -> tuple[str, ...]:
    """Return the labels of axes that are broadcast: they are counted from the last."""
    return tuple(f"...{index}" for index in reversed(range(axes)))


def _read_gemm(node: Node) -> _Contraction | None:
    left, right, bias = (operand(node, index) for index in range(3))
    if left is None or right is None:
        return None
    factors = (
        _Term(left, ("k", "m") if node.attribute("transA", 0) else ("m", "k")),
        _Term(right, ("n", "k") if node.attribute("transB", 0) else ("k", "n")),
    )
    return _Contraction(factors, _Term(node.outputs[0], ("m", "n")), _bias_of(bias))


def _bias_of(bias: Value | None) -> _Term | None:
    """Return what is added, aligned with the last axes of a matrix; None without one."""
    if bias is None:
        return None
    axes = rank(bias)
    return _Term(bias, ("m", "n")[2 - axes :] if axes <= 2 else ())


def _read_matmul(node: Node) -> _Contraction | None:
    left, right = operand(node, 0), operand(node, 1)
    if left is None or right is None or not rank(left) or not rank(right):
        return None
    first = _factor(left, ("m", "k"), _flags(node, "transA", "transBatchA"))
    second = _factor(right, ("k", "n"), _flags(node, "transB", "transBatchB"))
    kept = [label for label, term in (("m", first), ("n", second)) if label in term.labels]
    stacked = _batch(max(0, rank(left) - 2, rank(right) - 2))
    return _Contraction((first, second), _Term(node.outputs[0], (*stacked, *kept)))


def _flags(node: Node, swap: str, turn: str) -> tuple[bool, bool]:
    """Return the transpositions of an operand; only FusedMatMul has them."""
    if node.domain != MICROSOFT:
        return False, False
    return bool(node.attribute(swap, 0)), bool(node.attribute(turn, 0))


def _factor(value: Value, matrix: tuple[str, str], flags: tuple[bool, bool]) -> _Term:
    """Return an operand of a product of stacked matrices.

    Args:
        value: the operand; a vector is all sum.
        matrix: labels of its last two axes, as they are multiplied.
        flags: whether these two are swapped, and whether the one before the last comes first.
    """
    axes = rank(value)
    if axes < 2:
        return _Term(value, ("k",))
    swapped, turned = flags
    one, other = reversed(matrix) if swapped else matrix
    stacked = _batch(axes - 2)
    return _Term(value, (one, *stacked, other) if turned else (*stacked, one, other))


def _read_gelu(node: Node) -> _Contraction | None:
    found, bias = _read_matmul(node), operand(node, 2)
    if found is None or bias is None:
        return found
    return found._replace(added=_Term(bias, ("n",)))


def _read_einsum(node: Node) -> _Contraction | None:
    equation = node.attribute("equation", "")
    if not isinstance(equation, str):
        return None
    given, arrow, result = equation.replace(" ", "").partition("->")
    texts = given.split(",")
    values = [value for value in node.inputs if value is not None and value.name]
    if len(texts) != len(values):
        return None
    terms = [_labelled(value, text) for value, text in zip(values, texts, strict=True)]
    made = _labelled(node.outputs[0], result if arrow else _implicit(texts))
    known = [term for term in terms if term is not None]
    if made is None or len(known) != len(terms):
        return None
    return _Contraction(tuple(known), made)


def _labelled(value: Value, text: str) -> _Term | None:
    """Return a term of an equation; None where its letters are not as many as the axes."""
    before, dots, after = text.partition("...")
    spare = rank(value) - len(before) - len(after)
    letters = before + after
    if spare < 0 or (spare and not dots) or not (letters.isalpha() or not letters):
        return None
    return _Term(value, (*before, *_batch(spare), *after))


def _implicit(texts: Sequence[str]) -> str:
    """Return the result of an equation without an arrow: the letters that come only once."""
    letters = "".join(texts).replace(".", "")
    dots = "..." if any("..." in text for text in texts) else ""
    return dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))


def _rule(op: str, read: Callable[[Node], _Contraction | None], domain: str = "") -> CouplingRule:
    return CouplingRule(op, partial(_couple, read=read), None, domain)


RULES: tuple[CouplingRule, ...] = (
    _rule("Gemm", _read_gemm),
    _rule("MatMul", _read_matmul),
    _rule("Einsum", _read_einsum),
    _rule("FusedGemm", _read_gemm, MICROSOFT),
    _rule("FusedMatMul", _read_matmul, MICROSOFT),
    _rule("TransposeMatMul", _read_matmul, MICROSOFT),
    _rule("GemmFastGelu", _read_gelu, MICROSOFT),
)
