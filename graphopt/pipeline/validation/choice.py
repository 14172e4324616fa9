"""Which metric judges: the one that is stated, or the one that labels and outputs call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.divergence import OutputKind, kind_of
from graphopt.analysis.metrics import Expects, are_classes, as_metric
from graphopt.errors import DataError, RecipeError
from graphopt.pipeline.validation.expected import token_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.analysis.metrics import AnyMetric
    from graphopt.calibration.base import Feed

    Array = np.ndarray[Any, Any]
    Lookup = Callable[[str], Callable[..., float]]

_TOLERANCE = 1e-3


def chosen_metric(
    name: str | None,
    lookup: Lookup,
    labels: Array | None,
    seen: Sequence[tuple[Feed, Array]],
    where: str,
    *,
    stated: bool = True,
) -> AnyMetric:
    """Return the metric that a model is judged by.

    Without a name: top-1 where labels are class numbers, that of the next token where the model
    reads ids and scores tokens, and without labels the agreement with the original where the output
    decides between classes. Where nothing is decided, models can still be told apart by how close
    their outputs are to the original's, but nobody could say how much of that may be lost.

    Args:
        name: of the metric, or None.
        lookup: finds a metric by name; raises RecipeError G103.
        labels: of all samples, or None.
        seen: inputs and first outputs of the original for some samples.
        where: the data, for messages.
        stated: whether a largest drop is stated.

    Raises:
        DataError: G216, there are no labels, and the metric needs some or none can be chosen.
        RecipeError: G103, the metric is unknown, or has to be named.
    """
    if name is not None:
        return with_what_it_needs(as_metric(name, lookup(name)), labels, seen, where)
    outputs = [output for _, output in seen]
    if _reads_tokens(seen) and _predicts(seen):
        return as_metric("next-token-top1", lookup("next-token-top1"))
    if labels is None:
        if decides(seen):
            return as_metric("agreement", lookup("agreement"))
        if stated:
            raise _undecided(where)
        return as_metric("output-snr", lookup("output-snr"))
    if not _are_class_numbers(outputs, labels):
        raise RecipeError(
            "no metric is named, and the labels are not the class numbers of the output",
            code="G103",
            hint="name a metric: --set limits.metric=psnr, or that of a plugin",
        )
    return as_metric("top1", lookup("top1"))


def with_what_it_needs(
    metric: AnyMetric, labels: Array | None, seen: Sequence[tuple[Feed, Array]], where: str
) -> AnyMetric:
    """Return a metric; raises DataError G216 where there is nothing to compare outputs with."""
    needs = metric.expects
    if labels is None and (
        needs is Expects.LABELS or (needs is Expects.NEXT and not _reads_tokens(seen))
    ):
        raise DataError(
            f"the metric `{metric.name}` is stated, and the data has no labels",
            code="G216",
            where=where,
            hint="add an array `labels` to the data, name a metric that needs none "
            "(agreement, kl, cosine, spearman), or state --min-snr",
        )
    return metric


def name_of(metric: object) -> str:
    """Return what a metric of the caller's own is called, as recipes spell names."""
    own = getattr(metric, "name", None) or getattr(metric, "__name__", "")
    plain = "".join(c if c.isalnum() else "-" for c in str(own)).strip("-")
    return plain or "metric"


def _undecided(where: str) -> DataError:
    return DataError(
        "a largest drop is stated, the data has no labels, and the model's first output does not "
        "decide between classes",
        code="G216",
        where=where,
        hint="state --min-snr, which needs no labels, name a metric that needs none "
        "(--set limits.metric=agreement, kl, cosine, spearman, or that of a plugin), or add an "
        "array `labels` to the data",
    )


def _are_class_numbers(outputs: Sequence[Array], labels: Array) -> bool:
    return are_classes(outputs, labels[: len(outputs)]) and int(np.max(labels)) < outputs[0].size


def _reads_tokens(seen: Sequence[tuple[Feed, Array]]) -> bool:
    """Whether the model reads ids and scores a vocabulary that has them all."""
    for feed, output in seen:
        ids = token_ids(feed, output)
        if ids is None or output.dtype.kind != "f" or ids.max(initial=0) >= output.shape[-1]:
            return False
    return bool(seen)


def _predicts(seen: Sequence[tuple[Feed, Array]]) -> bool:
    """Whether the largest score is oftener that of the next token than of the token itself.

    A model that fills in masked tokens has the same shapes, and is not to be judged by the next.
    """
    next_one = same = 0
    for feed, output in seen:
        ids = token_ids(feed, output)
        assert ids is not None
        found = output.argmax(axis=-1)
        next_one += int((found[:, :-1] == ids[:, 1:]).sum())
        same += int((found == ids).sum())
    return next_one > same


def _scores_classes(output: Array) -> bool:
    one = max(output.shape, default=0) == output.size > 1
    return output.dtype.kind == "f" and one and output.ndim != 3


def _is_signal(feed: Feed, output: Array) -> bool:
    return any(a.dtype.kind == "f" and a.size == output.size for a in feed.values())


def decides(seen: Sequence[tuple[Feed, Array]]) -> bool:
    """Whether an output decides between classes: one decision a sample, or whole numbers.

    Scores of several positions are not taken for decisions: in a detector nearly all of them are
    "nothing here", and agreement on those says little. Neither are signals, which are as long as an
    input or have three axes, masks between 0 and 1, and vectors of length one.

    Args:
        seen: inputs and first outputs for some samples.
    """
    outputs = [output for _, output in seen]
    if all(o.dtype.kind in "iub" for o in outputs):
        return True
    if not all(map(_scores_classes, outputs)) or any(_is_signal(*each) for each in seen):
        return False
    rows = [o.reshape(1, -1) for o in outputs]
    if kind_of(rows) is OutputKind.PROBABILITIES:
        return True
    values = np.concatenate(rows)
    shares = float(values.min()) >= 0.0 and float(values.max()) <= 1.0
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    return not shares and not np.allclose(lengths, 1.0, atol=_TOLERANCE)
