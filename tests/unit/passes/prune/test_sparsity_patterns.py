"""Patterns: what their names mean, which weights stay, and that nothing else does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import RecipeError
from graphopt.passes.prune.sparsity.patterns import Cells, Pattern, choose, follows


@pytest.mark.parametrize(
    ("text", "pattern", "share"),
    [
        ("unstructured", Pattern(), 0.6),
        ("2:4", Pattern(width=4, kept=2), 0.5),
        ("1:16", Pattern(width=16, kept=1), 0.9375),
        ("block", Pattern(width=4), 0.6),
        ("8x1", Pattern(rows=8), 0.6),
        ("2x16", Pattern(rows=2, width=16), 0.6),
    ],
)
def test_names_of_patterns(text: str, pattern: Pattern, share: float) -> None:
    assert Pattern.parse(text) == pattern
    assert pattern.share(0.6) == share


@pytest.mark.parametrize("text", ["", "4:4", "0:4", "3:2", "0x4", "4x0", "x", "-1:4", "2:4 "])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a pattern") as raised:
        Pattern.parse(text)
    assert raised.value.code == "G103"
    assert raised.value.hint


def test_cells_do_not_reach_over_the_end_of_a_tap() -> None:
    assert Cells(12, 6, Pattern.parse("2:4")).starts.tolist() == [0, 4, 6, 10]
    assert Cells(4, 4, Pattern.parse("unstructured")).starts.tolist() == [0, 1, 2, 3]
    assert Cells(3, 1, Pattern.parse("block")).starts.tolist() == [0, 1, 2]


def test_two_of_four_keeps_the_two_largest_and_ties_go_by_position() -> None:
    saliency = np.array([[[1.0, 4, 3, 2, 5, 5, 5, 5, 1]]])
    kept = choose(saliency, np.array([0, 4, 8]), Pattern.parse("2:4"), 0, by_output=False)
    assert kept.astype(int).tolist() == [[[0, 1, 1, 0, 1, 1, 0, 0, 1]]]


def test_a_share_of_all_or_of_every_output() -> None:
    saliency = np.array([[[1.0, 2, 3, 4], [10, 20, 30, 40]]])
    starts, plain = np.arange(4), Pattern()
    together = choose(saliency, starts, plain, 4, by_output=False)
    assert together.astype(int).tolist() == [[[0, 0, 0, 0], [1, 1, 1, 1]]]
    each = choose(saliency, starts, plain, 4, by_output=True)
    assert each.astype(int).tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


def test_blocks_go_by_their_mean_while_they_fit() -> None:
    saliency = np.array([[[1.0, 1, 9, 9, 2], [1, 1, 1, 1, 2]]])
    kept = choose(saliency, np.array([0, 2, 4]), Pattern.parse("2x2"), 5, by_output=False)
    # The blocks have 4, 4 and 2 weights: the first fits into 5, and the next would not.
    assert kept.astype(int).tolist() == [[[0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]]


PATTERNS = st.sampled_from(["unstructured", "2:4", "1:3", "block", "3x2", "2x1"])


@given(
    text=PATTERNS,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 9)),
    share=st.floats(0, 0.99),
    by_output=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_stays_is_in_the_pattern_and_what_goes_matters_less(
    text: str, shape: tuple[int, int, int, int], share: float, by_output: bool, seed: int
) -> None:
    groups, outputs, taps, run = shape
    pattern = Pattern.parse(text)
    saliency = np.random.default_rng(seed).random((groups, outputs, taps * run))
    starts = Cells(taps * run, run, pattern).starts
    zeros = int(np.floor(share * saliency.size + 0.5))
    kept = choose(saliency, starts, pattern, zeros, by_output)
    cells = kept.reshape(groups, outputs, taps, run)
    for at in range(0, run, pattern.width):
        cell = cells[..., at : at + pattern.width]
        if pattern.kept is not None:
            size = cell.shape[-1]
            assert (cell.sum(axis=-1) == min(pattern.kept, size)).all()
            continue
        for line in range(0, outputs, pattern.rows):
            block = cell[:, line : line + pattern.rows]
            assert (block.all(axis=(1, 3)) | ~block.any(axis=(1, 3))).all()
    if text == "unstructured":
        assert (~kept).sum() == zeros
    if text == "unstructured" and not by_output:
        assert saliency[~kept].max(initial=0) <= saliency[kept].min(initial=1)
    if pattern.kept is None:
        assert zeros - (~kept).sum() < pattern.rows * pattern.width
    weight = np.where(kept, saliency + 1, 0)
    spare = pattern.rows * pattern.width - 1
    assert follows(weight, starts, pattern, max(zeros - spare, 0))


@given(seed=st.integers(0, 999))
def test_two_of_four_is_the_best_choice_of_all(seed: int) -> None:
    saliency = np.random.default_rng(seed).random((1, 1, 4))
    kept = choose(saliency, np.array([0]), Pattern.parse("2:4"), 0, by_output=False)
    best = max(saliency[0, 0, list(pair)].sum() for pair in itertools.combinations(range(4), 2))
    assert saliency[kept].sum() == pytest.approx(best, rel=1e-12)


def test_dense_weights_do_not_follow_a_pattern() -> None:
    weight = np.ones((1, 2, 8))
    starts = Cells(8, 8, Pattern.parse("2:4")).starts
    assert not follows(weight, starts, Pattern.parse("2:4"), 0)
    weight[..., ::2] = 0
    assert follows(weight, starts, Pattern.parse("2:4"), 0)
    assert not follows(weight, starts, Pattern.parse("block"), 8)
