"""Curves of kernels: nonnegative terms fitted to samples, chosen by what predicts other sources."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.fitting.nnls import nnls, robust_nnls
from graphopt.cost.terms import candidate_terms, curve_keys, terms
from graphopt.targets.profile import KernelCurve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.fitting.samples import Sample
    from graphopt.cost.terms import Grid

    Array = np.ndarray[Any, Any]

LEAST_SAMPLES = 6
"""Fewer samples than this get a curve of the fewest terms, or none."""

FEW_SAMPLES = 12
_FEW_SOURCES = 3
"""Fewer samples, or from fewer sources, only scale the curve of the coarser class."""

_ANY = ".any"
"""End of the name of the curve of kernels of every kind, too coarse to be scaled."""

_FEWEST_SAMPLES = 2
_FEWEST_TERMS = ("mac", "element")
"""What a kernel is worth that was met only twice: its time in proportion to its size."""

FLOOR_US = 1.0
"""Errors are relative to the time plus this: nobody measures a kernel of 0.1 us to a percent."""

_SIMPLE = (
    "call",
    "cold_call",
    "mac",
    "out",
    "place",
    "element",
    "visit",
    "moved",
    "weight",
    "cold_weight",
)
_MORE = (*_SIMPLE, "far_moved", "cold_moved", "far_weight", "spilled", "column")
TERM_SETS: tuple[tuple[str, ...], ...] = (_SIMPLE, _MORE, (*_MORE, "tile", "pass", "patch", "line"))
"""Terms to choose from, from few to all."""

_PRICE_OF_TERM = 0.01
"""What one more term must lower the error of other sources by, relative to it."""

_HOLD = 1e-3
"""How strongly a coefficient is held at 0, relative to one sample."""

_HOLD_AT_PRIOR = 0.3
"""Relative error of one sample that weighs as much as a coefficient of twice the prior's."""

_HOLD_AT_PARENT = 0.1
_HOLD_PLAUSIBLE = 0.03
"""The same for the most that is plausible, relative to all samples: each may err by so much."""

_SMALL_SHARE = 0.3
"""The same for a coefficient of the coarser curve, or for one that would explain this share."""

_PART_OF_PARENT = 0.1
_LEAST = {"call": 0.0}
"""Least part of the coarser curve's coefficients that a class keeps: a class of which only small
kernels were measured must not make large ones free."""

_NEVER = 1e-6
"""Relative size of a term that no sample of a class has."""

_FOLDS = 5


class CurveFitter:
    """Fits curves to samples on one grid; the terms of a sample are computed once.

    Args:
        samples: what was measured.
        grid: blocks and caches of the device.
        prior: coefficients by term that are expected of any class, such as the time of a byte:
            where the samples say nothing of a term, these hold.
        plausible: coefficients by term that are about the most that makes sense, such as the time
            of a byte that no cache has: larger ones take many samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        grid: Grid,
        prior: Mapping[str, float] | None = None,
        plausible: Mapping[str, float] | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self._prior = prior or {}
        self._plausible = plausible or {}
        self._terms = [terms(s.signature, grid, s.around) for s in self.samples]
        self._us = np.array([s.us for s in self.samples])
        counts = np.sqrt(np.array([s.weight for s in self.samples]))
        self._weight = counts / (self._us + FLOOR_US)
        self._members: dict[str, list[int]] = defaultdict(list)
        self._parents: dict[str, str] = {}
        self._keys = [curve_keys(sample.signature, grid) for sample in self.samples]
        for index, keys in enumerate(self._keys):
            for key, parent in zip(keys, (*keys[1:], ""), strict=True):
                self._members[key].append(index)
                self._parents.setdefault(key, parent)
        self._names: dict[str, tuple[str, ...]] = {}

    def fit(self, leave_out: frozenset[str] = frozenset()) -> dict[str, KernelCurve]:
        """Return the curves, without the samples of some sources.

        Which terms a curve has is decided once, from all samples, by cross-validation over the
        sources; only their coefficients depend on what is left out.
        """
        curves: dict[str, KernelCurve] = {}
        for key in sorted(self._members, key=self._depth):
            kept = [i for i in self._members[key] if self.samples[i].source not in leave_out]
            if len(kept) < _FEWEST_SAMPLES:
                continue
            curves[key] = self._curve(key, np.array(kept), curves.get(self._parents[key]))
        return curves

    def left_out(self, folds: int = _FOLDS) -> float:
        """Return the mean relative error of samples whose source was no part of the fit."""
        sources = sorted({sample.source for sample in self.samples})
        total = weights = 0.0
        for fold in range(min(folds, len(sources))):
            held = frozenset(sources[fold::folds])
            curves = self.fit(held)
            for index, sample in enumerate(self.samples):
                key = next((k for k in self._keys[index] if k in curves), "")
                if sample.source not in held or not key:
                    continue
                made = sum(c * self._terms[index].get(t, 0.0) for t, c in curves[key].terms.items())
                total += sample.weight * abs(made - sample.us) / (sample.us + FLOOR_US)
                weights += sample.weight
        return total / weights if weights else 0.0

    def _curve(self, key: str, kept: Array, parent: KernelCurve | None) -> KernelCurve:
        sources = {self.samples[i].source for i in kept}
        few = len(kept) < FEW_SAMPLES or len(sources) < _FEW_SOURCES
        if few and parent is not None and not self._parents[key].endswith(_ANY):
            return self._like_parent(kept, parent)
        names = self._chosen(key, enough=len(kept) >= LEAST_SAMPLES)
        above = [t for t in (parent.terms if parent else ()) if t in self._possible(key)]
        names = tuple(dict.fromkeys((*names, *above)))
        found = self._solve(kept, names, parent)
        chosen = {n: float(c) for n, c in zip(names, found, strict=True) if c > 0}
        return KernelCurve(terms=chosen, points=len(kept))

    def _like_parent(self, kept: Array, parent: KernelCurve) -> KernelCurve:
        """Return the coarser curve times one factor: the median of measured over predicted."""
        names = list(parent.terms)
        predicted = self._matrix(kept, names) @ np.array([parent.terms[n] for n in names])
        ratios = (self._us[kept] + FLOOR_US) / (predicted + FLOOR_US)
        factor = float(np.median(ratios))
        scaled = {n: c if n == "call" else c * factor for n, c in parent.terms.items()}
        return KernelCurve(terms=scaled, points=len(kept))

    def _depth(self, key: str) -> tuple[int, str]:
        """Return how many coarser curves there are: those are fitted first."""
        count, parent = 0, self._parents[key]
        while parent:
            count, parent = count + 1, self._parents[parent]
        return count, key

    def _chosen(self, key: str, *, enough: bool) -> tuple[str, ...]:
        if not enough:
            return _FEWEST_TERMS
        if key not in self._names:
            members = np.array(self._members[key])
            possible = self._possible(key)
            sets = list(dict.fromkeys(tuple(t for t in possible if t in s) for s in TERM_SETS))
            prices = [
                self._error(members, names) * (1 + _PRICE_OF_TERM * len(names)) for names in sets
            ]
            self._names[key] = sets[int(np.argmin(prices))]
        return self._names[key]

    def _possible(self, key: str) -> tuple[str, ...]:
        """Return the terms that make sense for the kinds of kernels of a class."""
        kinds = sorted({self.samples[i].signature.kind for i in self._members[key]})
        return tuple(dict.fromkeys(t for kind in kinds for t in candidate_terms(kind)))

    def _matrix(self, members: Array, names: Sequence[str]) -> Array:
        return np.array([[self._terms[i].get(name, 0.0) for name in names] for i in members])

    def _solve(
        self, members: Array, names: Sequence[str], parent: KernelCurve | None = None
    ) -> Array:
        weight = self._weight[members]
        matrix = self._matrix(members, names) * weight[:, None]
        ridge, centre = self._held(matrix, names, parent)
        least = np.zeros(len(names))
        if parent is not None:
            least = np.array(
                [_LEAST.get(n, _PART_OF_PARENT) * parent.terms.get(n, 0.0) for n in names]
            )
        goal = self._us[members] * weight - matrix @ least
        found: Array = least + robust_nnls(matrix, goal, ridge, np.maximum(centre - least, 0.0))
        return found

    def _held(
        self, matrix: Array, names: Sequence[str], parent: KernelCurve | None = None
    ) -> tuple[Array, Array]:
        """Return how strongly each coefficient is held, and where.

        A class is held at the curve of the coarser one above it, and that at the prior, as is the
        cost of a call; what is expected of neither is held at 0, so that few samples are not
        explained by many terms.
        """
        ridge = _HOLD * (matrix**2).mean(axis=0)
        centre = np.array([self._prior.get(name, 0.0) for name in names])
        known = centre > 0
        ridge[known] = (_HOLD_AT_PRIOR / centre[known]) ** 2
        if parent is not None:
            above = np.array([parent.terms.get(name, 0.0) for name in names])
            share = _SMALL_SHARE / np.maximum(matrix.max(axis=0), _NEVER)
            typical = np.maximum(above, np.where(known, centre, share))
            mask = ((above > 0) | ~known) & np.array([name != "call" for name in names])
            ridge[mask] = (_HOLD_AT_PARENT / typical[mask]) ** 2
            centre[mask] = above[mask]
        for place, name in enumerate(names):
            most = self._plausible.get(name, 0.0)
            if most and centre[place] <= most:
                ridge[place] = max(ridge[place], len(matrix) * (_HOLD_PLAUSIBLE / most) ** 2)
        return ridge, centre

    def _error(self, members: Array, names: Sequence[str]) -> float:
        """Return the mean relative error on sources that were left out."""
        sources = sorted({self.samples[i].source for i in members})
        fold_of = {source: number % _FOLDS for number, source in enumerate(sources)}
        folds = np.array([fold_of[self.samples[i].source] for i in members])
        weight = self._weight[members]
        matrix = self._matrix(members, names) * weight[:, None]
        goal = self._us[members] * weight
        errors = []
        for fold in range(min(_FOLDS, len(sources))):
            inside = folds != fold
            if inside.any():
                found = nnls(matrix[inside], goal[inside], *self._held(matrix[inside], names))
                errors.append(np.abs(matrix[~inside] @ found - goal[~inside]))
        return float(np.concatenate(errors).mean()) if errors else float("inf")
