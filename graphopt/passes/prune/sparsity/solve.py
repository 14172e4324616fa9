"""One layer made sparse: which weights stay, what they become, and how far that moves outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.sparsity.least_squares import effort, output_error, reconstruct
from graphopt.passes.prune.sparsity.magnitude import magnitude
from graphopt.passes.prune.sparsity.moments import ordered_moments
from graphopt.passes.prune.sparsity.obs import compensate, obs
from graphopt.passes.prune.sparsity.patterns import Cells, Pattern, choose, follows
from graphopt.passes.prune.sparsity.wanda import wanda

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt.passes.prune.sparsity.layers import SparseLayer
    from graphopt.passes.recover.layers.inputs import LayerInputs

    Array = np.ndarray[Any, Any]

_MOST_EFFORT = 1e12
"""Multiplications that one layer's least squares may take: about a minute on two cores."""


@dataclass(frozen=True)
class Sparsified:
    """What became of one layer.

    Args:
        method: how its zeros were chosen.
        reason: the same for a person.
        weight: of the shape and type of the constant; None where it stays as it is.
        bias: likewise; None where it stays.
    """

    method: str
    reason: str
    weight: Array | None = None
    bias: Array | None = None


def sparsify(
    layer: SparseLayer,
    known: dict[Node, LayerInputs],
    pattern: Pattern,
    sparsity: float,
    method: str,
    solve: bool,
) -> Sparsified:
    """Return the sparse weights of a layer.

    Args:
        layer: as it is.
        known: moments of inputs by operator.
        pattern: where zeros may stand.
        sparsity: share of zeros; N:M does not need it.
        method: "magnitude", "wanda" or "obs"; the first where no data reach the layer.
        solve: whether the weights that stay are solved for.
    """
    rows = layer.rows()
    starts = Cells(rows.shape[2], layer.run, pattern).starts
    zeros = int(np.floor(pattern.share(sparsity) * rows.size + 0.5))
    # Blocks go while they fit, so that up to one block may be missing.
    spare = 0 if pattern.kept is not None else pattern.width * pattern.rows - 1
    if follows(rows, starts, pattern, max(zeros - spare, 0)):
        return Sparsified(method, f"as sparse as asked for: {_share(rows)} zeros")
    bias = layer.bias if solve else None
    moments = ordered_moments(layer, known, centred=bias is not None)
    if moments is None:
        keep = choose(magnitude(rows), starts, pattern, zeros, by_output=False)
        kept = np.where(keep, rows, 0.0)
        blind = method != "magnitude" or solve
        return _result(layer, "magnitude", "magnitude" + ", without data" * blind, kept)
    mean, second = moments
    made = sparse_rows(rows, second, starts, pattern, zeros, method, solve)
    error = relative_error(rows, made, second)
    how = f"{method}: relative squared error of the outputs {error:.2g}"
    if bias is None:
        return _result(layer, method, how, made)
    shift = np.einsum("gof,gf->go", rows - made, mean)
    stored = bias.array()
    raised = layer.first.stored_bias(layer.first.bias() + shift).reshape(stored.shape)
    return _result(layer, method, how, made, raised.astype(stored.dtype))


def sparse_rows(
    rows: Array,
    second: Array,
    starts: Array,
    pattern: Pattern,
    zeros: int,
    method: str,
    solve: bool,
) -> Array:
    """Return the weights with their zeros.

    OBS assumes that all features to come will be there to make up for a zero, which many of them
    are not where most are zero and inputs hang together closely. So the zeros that the two other
    criteria choose are compensated likewise, and what errs least in the outputs is taken.

    Args:
        rows: float64 [groups, outputs, features].
        second: of the inputs, positive definite, float64 [groups, features, features].
        starts: first feature of each cell.
        pattern: where zeros may stand.
        zeros: how many; N:M does not need it.
        method: "magnitude", "wanda" or "obs".
        solve: whether the weights that stay are solved for.
    """
    keeps = {}
    if method in {"magnitude", "obs"}:
        keeps["magnitude"] = choose(magnitude(rows), starts, pattern, zeros, by_output=False)
    if method in {"wanda", "obs"}:
        keeps["wanda"] = choose(wanda(rows, second), starts, pattern, zeros, by_output=True)
    candidates = [_settled(rows, k, second, method == "obs", solve) for k in keeps.values()]
    if method == "obs":
        each = int(np.floor(zeros / len(rows) + 0.5))
        found = [obs(w, h, starts, pattern, each) for w, h in zip(rows, second, strict=True)]
        keep, made = np.stack([k for k, _ in found]), np.stack([w for _, w in found])
        solved = solve and _is_affordable(keep)
        candidates.append(_settled(rows, keep, second, True, solve) if solved else made)
    errors = [relative_error(rows, made, second) for made in candidates]
    return candidates[int(np.argmin(errors))]


def _settled(rows: Array, keep: Array, second: Array, sweep: bool, solve: bool) -> Array:
    """Return the weights that stay as well as they can be had."""
    groups = zip(rows, keep, second, strict=True)
    if solve and _is_affordable(keep):
        return np.stack([reconstruct(*each) for each in groups])
    if sweep:
        return np.stack([compensate(*each) for each in groups])
    return np.where(keep, rows, 0.0)


def _is_affordable(keep: Array) -> bool:
    return sum(map(effort, keep)) <= _MOST_EFFORT


def relative_error(rows: Array, made: Array, second: Array) -> float:
    """Return the squared error of the outputs as a share of their power."""
    return _power(made - rows, second) / max(_power(rows, second), np.finfo(float).tiny)


def _power(rows: Array, second: Array) -> float:
    return sum(output_error(w, h) for w, h in zip(rows, second, strict=True))


def _result(
    layer: SparseLayer, method: str, how: str, rows: Array, bias: Array | None = None
) -> Sparsified:
    weight = layer.weight_of(rows)
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        reason = "stays dense: what its weights would become is not finite"
        return Sparsified(method, reason)
    return Sparsified(method, f"{_share(rows)} zeros by {how}", weight, bias)


def _share(rows: Array) -> str:
    return f"{(rows == 0).mean():.0%}"
