"""What a student is to learn of a teacher: outputs by what they hold, and the ends of blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from graphopt import ir
from graphopt.analysis.divergence import OutputKind, kind_of
from graphopt.errors import ModelError
from graphopt.passes.prune.outputs import counted_outputs
from graphopt_torch.teaching.feature import Feature, power_of
from graphopt_torch.teaching.features import block_ends
from graphopt_torch.teaching.output_kinds import Kind, kinds_of
from graphopt_torch.teaching.output_losses import divergences, output_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from graphopt.ir import Graph
    from graphopt_torch.execution import Program
    from graphopt_torch.samples import TrainingSamples

    Tensors = Mapping[str, Tensor]

_SHARE = 3.0
"""Of the loss at the start, features to outputs: they say more of each sample than scores do, so
that few samples go further."""
_LOOKED_AT = 16
"""Samples that kinds are told by, and features compared on."""


@dataclass(frozen=True)
class Objective:
    """What is minimised, and what is judged.

    The loss is the sum over outputs of ``output_loss`` and, with a weight, the mean over features
    of half the power of the difference over the power of the feature.

    Args:
        kinds: of the outputs that are taught.
        powers: mean square of each of them in the teacher.
        judged: the outputs that the divergence counts, and how.
        features: what is compared inside the model.
        feature_weight: of the features, see ``_balanced``.
        temperature: that scores of classes are softened by.
        joined: whether axis 0 of the outputs is over samples.
    """

    kinds: Mapping[str, Kind]
    powers: Mapping[str, float]
    judged: Mapping[str, OutputKind]
    features: tuple[Feature, ...] = ()
    feature_weight: float = 0.0
    temperature: float = 1.0
    joined: bool = True

    @classmethod
    def of(
        cls,
        teacher: Program,
        student: Program,
        original: Graph,
        graph: Graph,
        samples: TrainingSamples,
        *,
        features: bool = True,
        temperature: float = 1.0,
    ) -> Objective:
        """Look at both models on a few samples, and return what there is to learn.

        Args:
            teacher: the program of ``original``.
            student: the program of ``graph``.
            original: the model as it was given.
            graph: what became of it.
            samples: whose first batch is looked at.
            features: whether the ends of blocks are compared.
            temperature: of scores of classes.

        Raises:
            ModelError: G217, the outputs are not numbers with a gradient.
        """
        feeds = _first(samples, teacher)
        ends = _shared(original, graph) if features else {}
        with torch.no_grad():
            taught = [teacher.run(feed, [*teacher.outputs, *ends]) for feed in feeds]
            found = [student.run(feed, [*student.outputs, *ends.values()]) for feed in feeds]
        kinds, judged = _kinds(taught, teacher.outputs)
        powers = {name: power_of([each[name] for each in taught]) for name in kinds}
        made = cls(
            kinds,
            powers,
            judged,
            _usable(ends, taught, found),
            temperature=temperature,
            joined=not samples.stacked,
        )
        return made._balanced(taught, found)

    @property
    def wanted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tensors that the loss needs: of the teacher, of the student."""
        return (
            (*self.kinds, *(feature.taught for feature in self.features)),
            (*self.kinds, *(feature.found for feature in self.features)),
        )

    def loss(self, taught: Tensors, found: Tensors, share: float = 1.0) -> Tensor:
        """Return what is minimised, a float32 number of at least 0.

        Args:
            taught: tensors of the teacher; see ``wanted``.
            found: tensors of the student.
            share: of ``feature_weight`` that counts.
        """
        total = self.output_loss(taught, found)
        weight = share * self.feature_weight
        return total + weight * self.feature_loss(taught, found) if weight else total

    def output_loss(self, taught: Tensors, found: Tensors) -> Tensor:
        """Return the sum over the outputs."""
        losses = [
            output_loss(kind, taught[name], found[name], self.powers[name], self.temperature)
            for name, kind in self.kinds.items()
        ]
        return torch.stack(losses).sum()

    def feature_loss(self, taught: Tensors, found: Tensors) -> Tensor:
        """Return the mean over the features."""
        losses = [each.loss(taught[each.taught], found[each.found]) for each in self.features]
        return torch.stack(losses).mean()

    def divergences(self, taught: Tensors, found: Tensors) -> Tensor:
        """Return the divergence of each sample from the teacher, float64 [samples].

        It is what ``graphopt.passes.prune.outputs.output_divergence`` returns the mean of.
        """
        found_ = [
            divergences(kind, taught[name], found[name], joined=self.joined)
            for name, kind in self.judged.items()
        ]
        return torch.stack(found_).sum(dim=0)

    def divergence(self, taught: Tensors, found: Tensors) -> float:
        """Return the mean divergence of a batch; infinite where a sample's is not finite."""
        return float(self.divergences(taught, found).mean())

    def _balanced(self, taught: Sequence[Tensors], found: Sequence[Tensors]) -> Objective:
        """Return this with features that begin with ``_SHARE`` times the weight of the outputs."""
        if not self.features:
            return self
        pairs = list(zip(taught, found, strict=True))
        outputs = sum(float(self.output_loss(*pair)) for pair in pairs)
        inner = sum(float(self.feature_loss(*pair)) for pair in pairs)
        weight = _SHARE * outputs / inner if inner > 0.0 else 0.0
        return replace(self, feature_weight=weight) if weight else replace(self, features=())


def _first(samples: TrainingSamples, teacher: Program) -> list[dict[str, Tensor]]:
    batch = next(samples.batches(min(_LOOKED_AT, len(samples)), seed=0))
    device = next((c.device for c in teacher.constants.values()), torch.device("cpu"))
    return [{n: v.to(device) for n, v in feed.items()} for feed in samples.feeds(batch)]


def _shared(original: Graph, graph: Graph) -> dict[str, str]:
    """Return the ends of blocks, from copies whose shapes are known."""
    one, other = original.copy(), graph.copy()
    ir.infer_shapes(one)
    ir.infer_shapes(other)
    return block_ends(one, other)


def _kinds(
    taught: Sequence[Tensors], outputs: Sequence[str]
) -> tuple[dict[str, Kind], dict[str, OutputKind]]:
    """Return the kinds to learn by, and those to judge by."""
    arrays = [
        {name: each[name].cpu().float().numpy() for name in _floats(each, outputs)}
        for each in taught
    ]
    kinds = kinds_of(arrays)
    if not kinds:
        raise ModelError(
            "the model cannot be trained, because no output is of floats: there is no gradient",
            code="G217",
            hint="cut the graph before the operators that choose, such as ArgMax",
        )
    return kinds, counted_outputs({name: kind_of([a[name] for a in arrays]) for name in kinds})


def _floats(tensors: Tensors, names: Sequence[str]) -> list[str]:
    return [name for name in names if tensors[name].is_floating_point()]


def _usable(
    ends: Mapping[str, str], taught: Sequence[Tensors], found: Sequence[Tensors]
) -> tuple[Feature, ...]:
    """Return the features that student and teacher really share."""
    made = (
        Feature.of(one, other, [t[one] for t in taught], [f[other] for f in found])
        for one, other in ends.items()
    )
    return tuple(feature for feature in made if feature is not None)
