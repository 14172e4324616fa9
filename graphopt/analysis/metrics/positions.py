"""Class scores and decisions, position by position: pictures, tokens, pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.divergence import OutputKind, kind_of

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

IGNORED = -100
"""A label that says nothing; so does every other negative one."""
_UNDECIDED = -1
_CHANNELS_FIRST = 4
"""From this many axes on, classes are along axis 1, as in the output of a convolution."""
_SMALLEST = 1e-12


def scores_of(output: Array) -> Array:
    """Return class scores as [positions, classes].

    Classes are along the only axis longer than 1; with several of those along axis 1 where there
    are four axes or more, and along the last otherwise.
    """
    long = [axis for axis, size in enumerate(output.shape) if size > 1]
    if len(long) <= 1:
        return output.reshape(1, -1)
    axis = 1 if output.ndim >= _CHANNELS_FIRST else -1
    return np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])


def decisions(output: Array) -> Array:
    """Return the class of the largest score at each position, in the smallest type that holds it.

    What is not float is a decision already. A position with NaN decides nothing: -1.
    """
    if output.dtype.kind != "f":
        return np.asarray(output.reshape(-1))
    scores = scores_of(output)
    if scores.shape[1] < 2:
        raise ValueError("the output has one score, and no classes to decide between")
    found = scores.argmax(axis=1)
    found[np.isnan(scores).any(axis=1)] = _UNDECIDED
    return np.asarray(found.astype(np.min_scalar_type(-scores.shape[1])))


def labelled_scores(output: Array, labels: Any) -> tuple[Array, Array]:
    """Return the scores [positions, classes] and labels [positions] where there are labels.

    One label for an output with several positions is the number of a score in the whole output.

    Raises:
        ValueError: neither one label nor one for each position, or a label beyond the classes.
    """
    wanted, scores = np.ravel(np.asarray(labels)), scores_of(output)
    if len(wanted) == 1 and len(scores) > 1:
        scores = output.reshape(1, -1)
    if len(wanted) != len(scores):
        raise ValueError(f"{len(scores)} positions in the output, and {wanted.size} labels")
    if wanted.dtype.kind not in "iub":
        raise ValueError(f"labels of type {wanted.dtype} are not class numbers")
    if int(wanted.max(initial=0)) >= scores.shape[1]:
        raise ValueError(f"label {wanted.max()} is beyond the {scores.shape[1]} classes")
    known = wanted >= 0
    return scores[known], wanted[known].astype(np.int64)


def ranks_of(scores: Array, labels: Array) -> Array:
    """Return how many classes come before the label; of equal scores the first comes first.

    Where a score is NaN, more than there are do.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    broken = np.isnan(scores).any(axis=1)
    return np.asarray(np.where(broken, np.iinfo(np.int64).max, before))


def log_probabilities(scores: Array, kind: OutputKind | None = None) -> Array:
    """Return log-probabilities [positions, classes] of logits or probabilities, float64.

    Args:
        scores: float [positions, classes].
        kind: what they are; told by their sums when None.
    """
    values = scores.astype(np.float64)
    if (kind or kind_of([values])) is OutputKind.PROBABILITIES:
        return np.log(np.maximum(values, _SMALLEST))
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def next_tokens(ids: Array, mask: Array | None = None) -> Array:
    """Return the token after each: ids [N, T] moved by one, and -100 where none is known.

    Args:
        ids: integers, [N, T].
        mask: [N, T]; where 0, the token is padding, and not expected.
    """
    found = np.full(ids.shape, IGNORED, np.int64)
    found[..., :-1] = ids[..., 1:]
    if mask is not None and mask.shape == ids.shape:
        found[..., :-1][mask[..., 1:] == 0] = IGNORED
    return found
