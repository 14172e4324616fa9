"""A choice among models that were judged on few samples keeps what was asked for on others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphopt.analysis.intervals import paired_interval
from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.luck import expected_drops, with_expected
from graphopt.planner.joint.strategy import Wanted
from graphopt.report import ScoreRecord

LIMIT = 1.0
AMPLITUDES = np.linspace(0.0, 1.0, 13)
"""Of the noise that models have against the original: the fastest has most."""
CHANGED, LOST = 0.16, 6.0
"""Share of decisions that noise of amplitude 1 changes, and points that it loses."""


def score(lost: int, won: int, samples: int) -> ScoreRecord:
    low, high = (100 * end for end in paired_interval(lost, won, samples))
    drop = 100 * (lost - won) / samples
    return ScoreRecord("top1", "points", 90 - drop, 88, 92, samples, drop, low, high)


def drawn(random: np.random.Generator, samples: int) -> tuple[list[ScoreRecord], np.ndarray]:
    """Judge models once: true losses scatter about the square of the amplitude."""
    true = LOST * AMPLITUDES**2 * np.exp(0.25 * random.standard_normal(len(AMPLITUDES)))
    changed = CHANGED * AMPLITUDES
    losing = (changed + true / 100) / 2
    winning = np.maximum((changed - true / 100) / 2, 0.0)
    counts = [
        random.multinomial(samples, [up, down, 1 - up - down])
        for up, down in zip(losing, winning, strict=True)
    ]
    return [score(int(c[0]), int(c[1]), samples) for c in counts], true


@pytest.mark.parametrize("samples", [250, 500, 2000])
def test_what_is_picked_loses_no_more_than_allowed_on_average(samples: int) -> None:
    random = np.random.default_rng(7)
    plain, careful = [], []
    for _ in range(300):
        scores, true = drawn(random, samples)
        drops = np.array([s.drop for s in scores])
        expected = np.maximum(expected_drops(scores), drops)
        plain.append(true[np.flatnonzero(drops <= LIMIT)[-1]])
        careful.append(true[np.flatnonzero(expected <= LIMIT)[-1]])
    # 300 choices leave about 0.05 points of uncertainty.
    assert np.mean(careful) <= LIMIT
    assert np.mean(careful) < np.mean(plain)
    if samples <= 500:
        assert np.mean(plain) > LIMIT  # so that there is something to correct


def test_precise_drops_are_taken_as_they_are() -> None:
    scores = [
        ScoreRecord("psnr", "dB", 30 - d, 29, 31, 200, d, d - 0.002, d + 0.002)
        for d in (0.01, 0.2, 0.5)
    ]
    np.testing.assert_allclose(expected_drops(scores), [0.01, 0.2, 0.5], atol=0.002)


def test_what_changes_nothing_is_expected_to_lose_nothing() -> None:
    scores = [score(0, 0, 200), score(40, 10, 200), score(30, 12, 200)]
    assert expected_drops(scores)[0] == 0.0
    assert expected_drops([score(0, 0, 50)]) == [0.0]
    assert expected_drops([]) == []


def test_a_model_that_was_lucky_is_expected_to_lose_as_others_do() -> None:
    scores = [score(60, 20, 400), score(42, 16, 400), score(30, 14, 400), score(16, 24, 400)]
    lucky = expected_drops(scores)[-1]
    assert scores[-1].drop == -2.0
    assert lucky > 0.0


def test_a_broken_model_says_nothing_of_the_others() -> None:
    broken = dataclasses.replace(score(1, 1, 100), drop=float("inf"))
    made = [
        Made(Candidate(label), label, Figures(1.0, 1, 1), found)
        for label, found in (("a", score(8, 3, 100)), ("b", broken), ("c", None))
    ]
    found = with_expected(made)
    assert [m.key for m in found] == ["a", "b", "c"]
    assert found[0].score is not None
    assert found[0].score.expected is not None
    assert found[1] == made[1]
    assert found[2] == made[2]


def test_what_is_expected_decides_beside_what_was_measured() -> None:
    wanted = Wanted(Budgets(), Figures(1.0, 1, 1), max_drop=1.0)
    here = score(5, 3, 250)
    for expected, holds in ((None, True), (0.9, True), (1.1, False)):
        told = dataclasses.replace(here, expected=expected)
        assert wanted.is_accurate(Made(Candidate("a"), "a", score=told)) is holds
    lossy = dataclasses.replace(score(9, 3, 250), expected=0.5)
    assert not wanted.is_accurate(Made(Candidate("a"), "a", score=lossy))
