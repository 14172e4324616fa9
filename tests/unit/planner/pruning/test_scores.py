"""Scores on held-out samples, in batches and one by one; and scores that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.analysis.divergence import OutputKind, divergence
from graphopt.planner.pruning.scorebook import ScoreBook
from graphopt.planner.pruning.scores import Scorer
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

CLASSIFIER = """
g (float[N,4] x) => (float[N,3] y) <float[4,3] w> {
  y = MatMul(x, w)
}
"""
SEQUENCE = """
g (float[1,T,4] x) => (float[1,T,3] y) <float[4,3] w> {
  y = MatMul(x, w)
}
"""


def feeds(shape: tuple[int, ...], count: int = 20) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "shape", "runs"), [(CLASSIFIER, (1, 4), 2), (SEQUENCE, (1, 5, 4), 20)]
)
def test_divergence_is_the_mean_over_samples(text: str, shape: tuple[int, ...], runs: int) -> None:
    made, samples = graph(text), feeds(shape)
    changed = graph(text, w=made.value("w").array() * 0.9)
    scorer = Scorer(made, samples)
    assert len(scorer._feeds) == runs  # 16 at a time where the batch is free
    weight = made.value("w").array()
    parts = [
        divergence(f["x"] @ weight, f["x"] @ (weight * 0.9), OutputKind.LOGITS) for f in samples
    ]
    assert scorer.divergence(changed) == pytest.approx(float(np.mean(parts)), rel=1e-4)
    assert scorer.divergence(made) == pytest.approx(0.0, abs=1e-9)


def test_a_model_that_does_not_run_is_infinitely_far() -> None:
    scorer = Scorer(graph(CLASSIFIER), feeds((1, 4)))
    broken = graph("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { y = MatMul(x, w) }")
    assert scorer.divergence(broken) == float("inf")


def test_scores_are_kept_and_a_line_that_was_cut_off_is_found_again(tmp_path: Path) -> None:
    made = graph(CLASSIFIER)
    changed = graph(CLASSIFIER, w=made.value("w").array() * 0.9)
    scorer, path = Scorer(made, feeds((1, 4))), tmp_path / "deep" / "scores.jsonl"
    first = ScoreBook(scorer, path).divergence("site", "8", lambda: changed)
    path.write_text(path.read_text() + '["other", "4"', encoding="utf-8")
    again = ScoreBook(scorer, path)
    assert again.known == 1
    assert again.divergence("site", "8", lambda: made) == first, "the kept score counts"
