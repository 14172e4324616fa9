"""Block-OBS: how much worse the consumers get at their best, once a unit is gone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.passes.prune.importance.base import ConsumerView, Evidence

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BlockObs:
    """The squared error that a unit leaves once the weights of the others make up for it.

    With rows x about their mean, H = E[x^T x] + r I, and P the features of a unit:

        eps(P) = tr(W_P^T [(H^-1)_PP]^-1 W_P)

    is what the error of y = x W grows by when P goes and the rest is refitted by least squares
    (Hassibi and Stork 1993, "Optimal brain surgeon"; for blocks Kurtic et al. 2022). Errors of all
    consumers are added up, each as a share of the power of what it computes. Once units are gone,
    H and W are those of the refitted rest. Without data H = I, which gives the squared norms of
    what the consumers do with a unit; without consumers those of its own weights are taken.

    Args:
        ridge: r as a share of the mean power of a feature; at least 0.
    """

    name: ClassVar[str] = "block-obs"

    ridge: float = 1e-3

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of power that is lost when each unit goes after those not in ``kept``.

        Args:
            evidence: what is known of the group.
            kept: units that are still there, bool [units].

        Returns:
            float64 [units]; 0 for units that are gone.
        """
        total = np.zeros(evidence.units)
        if not evidence.consumers:
            return np.where(kept, _producer_shares(evidence), 0.0)
        for share, view, metric in self._metrics(evidence):
            total += share * _saliency(view, metric, kept)
        return np.where(kept, total, 0.0)

    def gains(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of power that is won when each unit comes back; 0 for those in ``kept``.

        delta(i) = tr(g^T C^-1 g), with g = (H W)_i - H_iS W_S and C = H_ii - H_iS H_SS^-1 H_Si
        (Meng et al. 2024, "OSSCAR", section 3).
        """
        total = np.zeros(evidence.units)
        if not evidence.consumers:
            return np.where(kept, 0.0, _producer_shares(evidence))
        for share, view, metric in self._metrics(evidence):
            total += share * _gain(view, metric, kept)
        return np.where(kept, 0.0, total)

    def loss(self, evidence: Evidence, kept: Array) -> float:
        """Return the share of power that is lost when only ``kept`` is left, after refitting."""
        if not evidence.consumers:
            return float(_producer_shares(evidence)[~kept].sum())
        shares = self._metrics(evidence)
        return float(sum(share * _loss(view, metric, kept) for share, view, metric in shares))

    def _metrics(self, evidence: Evidence) -> Iterator[tuple[float, ConsumerView, Array]]:
        """Yield for each view one over the power of its operator, the view, and H."""
        power: dict[object, float] = defaultdict(float)
        plain = [centred(view) for view in evidence.consumers]
        for view, matrix in zip(evidence.consumers, plain, strict=True):
            made = np.einsum("fo,fo->", view.weight, matrix @ view.weight)
            power[view.consumer.node] += float(made)
        for view, matrix in zip(evidence.consumers, plain, strict=True):
            whole = power[view.consumer.node]
            if whole > 0:
                ridge = self.ridge * np.trace(matrix) / len(matrix)
                yield 1.0 / whole, view, matrix + ridge * np.eye(len(matrix))


def centred(view: ConsumerView) -> Array:
    """Return E[(x - mean)^T (x - mean)], float64 [features, features]; I without data."""
    if view.second is None:
        return np.eye(len(view.weight))
    mean = np.zeros(len(view.weight)) if view.mean is None else view.mean
    return np.asarray(view.second - np.outer(mean, mean))


def _producer_shares(evidence: Evidence) -> Array:
    total = np.zeros(evidence.units)
    for view in evidence.producers:
        mine = view.unit >= 0
        norms = np.square(view.weight[mine]).sum(axis=1)
        whole = norms.sum()
        if whole > 0:
            np.add.at(total, view.unit[mine], norms / whole)
    return total


def _stays(unit: Array, kept: Array) -> Array:
    """Return which features are there: those of kept units, and of other groups."""
    return np.where(unit < 0, True, kept[np.maximum(unit, 0)])


def _blocks(unit: Array, chosen: Array) -> Iterator[tuple[Array, Array]]:
    """Yield (units, their features [units, features of one]) of units with as many features."""
    features = np.flatnonzero(chosen & (unit >= 0))
    ordered = features[np.argsort(unit[features], kind="stable")]
    numbers, starts, counts = np.unique(unit[ordered], return_index=True, return_counts=True)
    for count in np.unique(counts):
        same = counts == count
        yield numbers[same], ordered[starts[same][:, None] + np.arange(count)]


def _refitted(weight: Array, metric: Array, stays: Array) -> tuple[Array, Array]:
    """Return (H_SS)^-1 and W_S = (H_SS)^-1 H_S W."""
    inverse = _inverse(metric[np.ix_(stays, stays)])
    return inverse, inverse @ (metric[stays] @ weight)


def _inverse(matrix: Array) -> Array:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True)


def _solve(matrices: Array, right: Array) -> Array:
    try:
        return np.linalg.solve(matrices, right)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.pinv(matrices, hermitian=True) @ right)


def _saliency(view: ConsumerView, metric: Array, kept: Array) -> Array:
    stays = np.flatnonzero(_stays(view.unit, kept))
    total = np.zeros(kept.size)
    if not stays.size:
        return total
    inverse, weight = _refitted(view.weight, metric, stays)
    for units, block in _blocks(view.unit[stays], np.ones(stays.size, dtype=bool)):
        own = inverse[block[:, :, None], block[:, None, :]]
        mine = weight[block]
        total[units] = np.einsum("upo,upo->u", mine, _solve(own, mine))
    return np.maximum(total, 0.0)


def _schur(view: ConsumerView, metric: Array, kept: Array) -> tuple[Array, Array]:
    """Return H_GG - H_GS H_SS^-1 H_SG for the features G that are gone, and which they are."""
    stays = _stays(view.unit, kept)
    gone = np.flatnonzero(~stays)
    across = metric[np.ix_(stays, gone)]
    own = metric[np.ix_(gone, gone)]
    if not stays.any():
        return own, gone
    return own - across.T @ _solve(metric[np.ix_(stays, stays)], across), gone


def _gain(view: ConsumerView, metric: Array, kept: Array) -> Array:
    schur, gone = _schur(view, metric, kept)
    # (H W)_G - H_GS W_S with W_S refitted is the Schur complement times what is gone.
    wanted = schur @ view.weight[gone]
    total = np.zeros(kept.size)
    for units, block in _blocks(view.unit[gone], np.ones(gone.size, dtype=bool)):
        own = schur[block[:, :, None], block[:, None, :]]
        mine = wanted[block]
        total[units] = np.einsum("upo,upo->u", mine, _solve(own, mine))
    return np.maximum(total, 0.0)


def _loss(view: ConsumerView, metric: Array, kept: Array) -> float:
    schur, gone = _schur(view, metric, kept)
    weight = view.weight[gone]
    return max(0.0, float(np.einsum("fo,fo->", weight, schur @ weight)))
