"""What is told about pruning, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """What units are along one axis of one tensor.

    Args:
        tensor: its name.
        axis: position, from the front.
        per_unit: indices that one unit is, the largest number of any unit.
        covered: indices that belong to the group.
        size: of the axis.
        stored: whether the tensor is a weight.
    """

    tensor: str
    axis: int
    per_unit: int
    covered: int
    size: int
    stored: bool


@dataclass(frozen=True)
class GroupFacts:
    """Units that can go, each with everything that it is coupled to.

    Args:
        name: what options call the group: the weight that makes it, or a tensor.
        units: how many there are.
        unit: "channel", "head", "hidden unit" or "feature".
        width: features or channels of the narrowest layer that makes it which one unit is.
        step: units that go at least at once.
        spans: the axes that shrink.
        makers: operators whose weights make the units.
        readers: operators that sum over them.
        inexact: how removing some changes what the rest becomes; empty where it does not.
        weights: share of the model's weights that hang on it, in [0, 1]; a weight hangs on what
            it reads and on what it makes, so shares of groups add up to more than 1.
        time: the same of the estimated time.
        milliseconds: estimated, of all operators that touch it.
        half: a width near half of the units; None where there is none or no data.
        divergence: of the outputs with ``half`` of the units left and their readers fitted; None
            without data.
    """

    name: str
    units: int
    unit: str
    width: int
    step: int
    spans: tuple[Span, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    inexact: tuple[str, ...]
    weights: float
    time: float
    milliseconds: float
    half: int | None = None
    divergence: float | None = None

    @property
    def is_exact(self) -> bool:
        """Whether removing what is zero at every reader changes nothing."""
        return not self.inexact


@dataclass(frozen=True)
class BranchFacts:
    """A residual branch, and what can be put in its place.

    Args:
        name: what options call it: the last tensor that it makes.
        entry: the tensor that it is made from.
        join: the operator that adds it to the skip.
        operators: its operators, in order.
        weights: share of the model's weights in it, in [0, 1].
        time: the same of the estimated time.
        milliseconds: estimated.
        kinds: what can be put in its place, as far as that can be told without data.
        reason: why nothing can; empty where something can.
    """

    name: str
    entry: str
    join: str
    operators: tuple[str, ...]
    weights: float
    time: float
    milliseconds: float
    kinds: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Stays:
    """Weights whose channels stay, for reasons that differ in names at most.

    Args:
        reason: one of them, in full; continues "because".
        share: of the model's weights, in [0, 1].
        alike: how many further reasons there are of this kind.
        tensors: names of the weights.
    """

    reason: str
    share: float
    alike: int
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Tie:
    """An operator that couples an axis with others.

    Args:
        node: the operator's name.
        op: what it is.
        axes: (tensor, axis) of the others.
    """

    node: str
    op: str
    axes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Origin:
    """A reason for which indices stay, and the axis that it was said of.

    Args:
        reason: continues "because".
        tensor: whose axis it was said of; another one where it is passed on by what couples them.
        axis: position.
    """

    reason: str
    tensor: str
    axis: int


@dataclass(frozen=True)
class AxisPart:
    """Indices of an axis that have one fate.

    Args:
        ranges: (first, last) of each run of indices.
        group: that they belong to; None where they stay.
        unit: what one unit of the group is; empty where they stay.
        origins: why they stay.
        ties: what couples them with other axes.
    """

    ranges: tuple[tuple[int, int], ...]
    group: str | None
    unit: str
    origins: tuple[Origin, ...]
    ties: tuple[Tie, ...]


@dataclass(frozen=True)
class AxisFacts:
    """What is known of one axis; ``parts`` is empty where there is one index, or an open size."""

    axis: int
    size: int | str | None
    parts: tuple[AxisPart, ...]


@dataclass(frozen=True)
class TensorFacts:
    """What is known of the axes of one tensor.

    Args:
        name: its name in the simplified model.
        dtype: as a numpy name; "?" where it is not known.
        shape: None where not even the rank is known.
        role: "weight", "input", "output" or "activation".
        maker: the operator that makes it; None where none does.
        readers: the operators that read it.
        axes: those that were asked for.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    role: str
    maker: str | None
    readers: tuple[str, ...]
    axes: tuple[AxisFacts, ...]
