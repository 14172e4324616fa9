"""Divergences against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.divergence import OutputKind, divergence, kind_of

LOGITS = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (LOGITS, OutputKind.LOGITS),
        (softmax(LOGITS), OutputKind.PROBABILITIES),
        (np.zeros((1, 4, 7)) - 1, OutputKind.LOGITS),
        (np.zeros((1, 1)), OutputKind.SIGNAL),
        (np.zeros((1, 3, 8, 8)), OutputKind.SIGNAL),
        (np.zeros(5), OutputKind.SIGNAL),
        (np.zeros((1, 5), dtype=np.int64), OutputKind.SIGNAL),
    ],
)
def test_the_kind_of_an_output_is_told_by_its_values(output: np.ndarray, kind: OutputKind) -> None:
    assert kind_of([output]) is kind


def test_divergence_is_the_definition() -> None:
    other = LOGITS + np.array([[0.1, -0.3, 0.2], [0.0, 0.4, -0.2]])
    p, q = softmax(LOGITS), softmax(other)
    wanted = float((p * np.log(p / q)).sum(axis=-1).mean())
    assert divergence(LOGITS, other, OutputKind.LOGITS) == pytest.approx(wanted, rel=1e-12)
    assert divergence(p, q, OutputKind.PROBABILITIES) == pytest.approx(wanted, rel=1e-9)
    signal = divergence(LOGITS, LOGITS * 1.1, OutputKind.SIGNAL)
    assert signal == pytest.approx(0.5 * 0.01, rel=1e-9)


@pytest.mark.parametrize("kind", OutputKind)
def test_equal_outputs_do_not_diverge(kind: OutputKind) -> None:
    outputs = softmax(LOGITS) if kind is OutputKind.PROBABILITIES else LOGITS
    assert divergence(outputs, outputs.copy(), kind) == 0.0


@pytest.mark.parametrize("found", [LOGITS[:1], LOGITS * np.nan])
def test_what_cannot_be_compared_is_infinitely_far(found: np.ndarray) -> None:
    assert divergence(LOGITS, found, OutputKind.LOGITS) == float("inf")


def test_a_softmax_behind_large_scores_stays_finite() -> None:
    large = np.array([[1e4, -1e4]])
    assert divergence(large, -large, OutputKind.LOGITS) == pytest.approx(2e4, rel=1e-9)
