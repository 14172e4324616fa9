"""Two products around a narrowed activation, whose sum with a skip is fitted by both of them.

A layer that lost outputs keeps what the others computed, which was chosen to go with those that are
gone. What is left does better when it may change: with x the rows that the first product reads, h
the activation and U the taps of the second,

    min over V, c, U, d of |T - s - d - sum_t h(x_t V + c) U_t|^2,

T what the original gave in all, s the skip. Between the limits of h this is linear in V, so V and c
take Gauss-Newton steps, each a least squares problem that conjugate gradients solve; U and d are
solved in closed form for every V (a separable problem, Golub and Pereyra 1973). Errors that a Relu
behind the sum takes away are let be, see ``rectified``. Samples left out say when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.passes.prune.reconstruct.pair_rows import Pair, PairRows

    Array = np.ndarray[Any, Any]

ROUNDS = 4
_STEPS = 12
"""Conjugate gradients of one round."""
_HALVINGS = 3
_RIDGE = 1e-3
_DAMPING = 1e-2
_GAIN = 5e-3
"""Share of the error on left-out samples that a round takes off, or it is the last."""


@dataclass(frozen=True)
class PairFit:
    """New weights of both products.

    Args:
        first: float64 [groups, features, hidden].
        first_bias: float64 [groups, hidden].
        second: float64 [1, features, outputs].
        second_bias: float64 [1, outputs].
        errors: mean square on left-out samples, before and after.
    """

    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    errors: tuple[float, float]


def fit_pair(pair: Pair, rows: PairRows, rounds: int = ROUNDS) -> PairFit | None:
    """Return weights that do better on left-out samples; None where none were found.

    Args:
        pair: the products.
        rows: that both see.
        rounds: how often both are fitted in turn, at most.
    """
    arrays = (rows.inputs, rows.totals, *([] if rows.skips is None else [rows.skips]))
    finite = all(bool(np.isfinite(array).all()) for array in arrays)
    if not finite or rows.left_out.all() or not rows.left_out.any():
        return None
    try:
        return _Problem(pair, rows).solved(rounds)
    except np.linalg.LinAlgError:
        return None


class _Problem:
    """The weights of a pair, with x whitened so that conjugate gradients need few steps."""

    def __init__(self, pair: Pair, rows: PairRows) -> None:
        self.pair, self.rows = pair, rows
        self.taps = rows.places.shape[1]
        self.fitted, self.left = ~rows.left_out, rows.left_out
        groups, _, features = rows.inputs.shape
        mean = rows.inputs.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        apart = rows.inputs - mean
        gram = np.matmul(apart.transpose(0, 2, 1), apart).astype(np.float64) / apart.shape[1]
        power = np.trace(gram, axis1=1, axis2=2) / features
        lift = (_RIDGE * power + 1e-12)[:, None, None] * np.eye(features)
        root = np.linalg.cholesky(gram + lift)
        self.unwhite = np.linalg.inv(root).transpose(0, 2, 1)
        self.mean = mean[:, 0].astype(np.float64)
        self.white = np.matmul(apart, self.unwhite.astype(np.float32))
        weight, bias = pair.first.matrix(), pair.first.bias()
        self.v = np.matmul(root.transpose(0, 2, 1), weight).astype(np.float32)
        self.c = (bias + np.einsum("gf,gfo->go", self.mean, weight)).astype(np.float32)
        second = pair.second.matrix()[0].astype(np.float32)
        self.u = second.reshape(-1, self.taps, second.shape[1]).transpose(1, 0, 2).copy()
        self.d = pair.second.bias()[0].astype(np.float32)
        self.groups = groups
        self.seen = np.ascontiguousarray(rows.places[self.fitted].T)
        self.readers = _readers(self.seen, rows.inputs.shape[1])

    # -- forward ---------------------------------------------------------------------------

    def pre(self, v: Array, c: Array) -> Array:
        """Return x V + c at every place, float32 [places, hidden]."""
        made = np.matmul(self.white, v) + c[:, None, :]
        flat = np.ascontiguousarray(made.transpose(1, 0, 2)).reshape(made.shape[1], -1)
        return np.asarray(flat)

    def hidden(self, pre: Array) -> Array:
        """Return what the second product reads; a row of zeros stands for what is outside."""
        low, high = self.pair.limits
        made = np.clip(pre, low, high) if np.isfinite((low, high)).any() else pre
        return np.concatenate([np.zeros((1, made.shape[1]), np.float32), made])

    def product(self, hidden: Array, which: Array) -> Array:
        """Return what the taps of the second product make of hidden values, without d."""
        seen = self.seen if which is self.fitted else self.rows.places[which].T
        total = np.zeros((seen.shape[1], self.u.shape[2]), np.float32)
        for places, weight in zip(seen, self.u, strict=True):
            total += hidden.take(places, axis=0) @ weight
        return total

    def residual(self, hidden: Array, which: Array) -> Array:
        """Return what is missed, float32 [rows, outputs]; nothing where limits take it away."""
        low, high = self.rows.limits
        made = self.product(hidden, which) + self.d
        if self.rows.skips is not None:
            made += self.rows.skips[which]
        wanted = self.rows.totals[which]
        missed = wanted - made
        missed[(wanted <= low) & (made <= low)] = 0.0
        missed[(wanted >= high) & (made >= high)] = 0.0
        return np.asarray(missed)

    def error(self, hidden: Array, which: Array) -> float:
        """Return the mean square of what is missed, summed over outputs."""
        missed = self.residual(hidden, which)
        low, high = self.rows.limits
        if np.isfinite((low, high)).any():
            wanted = self.rows.totals[which]
            missed = np.clip(wanted, low, high) - np.clip(wanted - missed, low, high)
        return float(np.square(missed).sum(dtype=np.float64)) / max(int(which.sum()), 1)

    # -- rounds ----------------------------------------------------------------------------

    def solved(self, rounds: int) -> PairFit | None:
        """Take rounds while they help on left-out samples."""
        pre = self.pre(self.v, self.c)
        hidden = self.hidden(pre)
        if not self.refit_second(hidden):
            return None
        before = least = self.error(hidden, self.left)
        found = None
        for _ in range(rounds):
            stepped = self.step_first(pre, hidden)
            if stepped is None:
                break
            pre, hidden = stepped, self.hidden(stepped)
            if not self.refit_second(hidden):
                break
            error = self.error(hidden, self.left)
            if not error < least * (1.0 - _GAIN):
                break
            least, found = error, self.weights((before, error))
        return found

    def weights(self, errors: tuple[float, float]) -> PairFit:
        """Return the weights for x as it is."""
        first = np.matmul(self.unwhite, self.v.astype(np.float64))
        bias = self.c - np.einsum("gf,gfo->go", self.mean, first)
        second = self.u.transpose(1, 0, 2).reshape(1, -1, self.u.shape[2]).astype(np.float64)
        return PairFit(first, bias, second, self.d[None].astype(np.float64), errors)

    def refit_second(self, hidden: Array) -> bool:
        """Solve for U and d; return whether they are finite."""
        places = self.rows.places[self.fitted]
        old = self.u.transpose(1, 0, 2).reshape(-1, self.u.shape[2])
        rows = hidden[places].transpose(0, 2, 1).reshape(len(places), -1)
        mean = rows.mean(axis=0, dtype=np.float64)
        rows = rows - mean.astype(np.float32)
        gram = (rows.T @ rows).astype(np.float64) / len(rows)
        ridge = _RIDGE * np.trace(gram) / len(gram)
        if not ridge > 0:
            return False
        # What is missed, and what is there of it already: the aim moves with the prediction.
        missed = self.residual(hidden, self.fitted)
        shift = missed.mean(axis=0, dtype=np.float64)
        cross = (rows.T @ (missed - shift.astype(np.float32))).astype(np.float64) / len(rows)
        change = np.linalg.solve(gram + ridge * np.eye(len(gram)), cross)
        if not np.isfinite(change).all():
            return False
        made = (old + change).astype(np.float32)
        self.u = made.reshape(-1, self.taps, made.shape[1]).transpose(1, 0, 2).copy()
        self.d = (self.d + shift - mean @ change).astype(np.float32)
        return True

    def step_first(self, pre: Array, hidden: Array) -> Array | None:
        """Take one Gauss-Newton step of V and c; return the new pre-activation, None without."""
        low, high = self.pair.limits
        slope = ((pre > low) & (pre < high)).astype(np.float32)
        scale = 1.0 / (np.sqrt(np.square(self.u).sum(axis=(0, 2))) + 1e-12).astype(np.float32)
        step, shift = self._conjugate(slope * scale, self.residual(hidden, self.fitted))
        each = scale.reshape(self.groups, -1)
        before = self.error(hidden, self.fitted)
        for halving in range(_HALVINGS):
            share = np.float32(0.5**halving)
            v = self.v + share * step * each[:, None, :]
            c = self.c + share * shift * each
            made = self.pre(v, c)
            if self.error(self.hidden(made), self.fitted) < before:
                self.v, self.c = v, c
                return made
        return None

    def _forward(self, v: Array, c: Array, slope: Array) -> Array:
        made = self.pre(v, c) * slope
        padded = np.concatenate([np.zeros((1, made.shape[1]), np.float32), made])
        return self.product(padded, self.fitted)

    def _backward(self, missed: Array, slope: Array) -> tuple[Array, Array]:
        back = np.zeros_like(slope)
        made = np.zeros((len(missed) + 1, slope.shape[1]), np.float32)
        for readers, weight in zip(self.readers, self.u, strict=True):
            np.matmul(missed, weight.T, out=made[1:])
            back += made.take(readers, axis=0)
        inner = (back * slope).reshape(len(slope), self.groups, -1).transpose(1, 0, 2)
        return np.matmul(self.white.transpose(0, 2, 1), inner), inner.sum(axis=1)

    def _conjugate(self, slope: Array, missed: Array) -> tuple[Array, Array]:
        """Return the least squares change of V and c, in units of ``scale``; stopped early."""
        v, c = np.zeros_like(self.v), np.zeros_like(self.c)
        left = missed.copy()
        grad = self._backward(left, slope)
        damping = 0.0
        power = _dot(grad, grad)
        if not power > 0:
            return v, c
        along = grad
        for number in range(_STEPS):
            seen = self._forward(*along, slope)
            curved = float(np.square(seen).sum(dtype=np.float64))
            if number == 0:
                damping = _DAMPING * curved / power
            step = np.float32(power / (curved + damping * _dot(along, along)))
            v, c = v + step * along[0], c + step * along[1]
            left -= step * seen
            back = self._backward(left, slope)
            grad = (back[0] - damping * v, back[1] - damping * c)
            now = _dot(grad, grad)
            if not now > 1e-6 * power:
                break
            share = np.float32(now / power)
            along = (grad[0] + share * along[0], grad[1] + share * along[1])
            power = now
        return v, c


def _dot(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    return float(sum(np.vdot(a, b) for a, b in zip(one, other, strict=True)))


def _readers(seen: Array, places: int) -> Array:
    """Return one more than the row that sees each place through each tap; 0 where none does.

    Through one tap a place is seen once at most; 0 among those seen is outside.

    Args:
        seen: one more than the place, int64 [taps, rows].
        places: how many there are.

    Returns:
        int64 [taps, places].
    """
    found = np.zeros((len(seen), places + 1), dtype=np.int64)
    np.put_along_axis(found, seen, np.arange(1, seen.shape[1] + 1)[None], axis=1)
    return np.ascontiguousarray(found[:, 1:])
