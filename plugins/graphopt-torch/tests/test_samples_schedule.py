"""Batches: every sample once an epoch, and the same batch at a step wherever training began."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from graphopt_torch.samples.schedule import Schedule, alteration, held_out_samples
from hypothesis import given, settings
from hypothesis import strategies as st

GROUPS = st.lists(st.integers(1, 30), min_size=1, max_size=4).map(
    lambda sizes: tuple(
        tuple(range(start, start + size))
        for start, size in zip(itertools.accumulate([0, *sizes]), sizes, strict=False)
    )
)


@settings(deadline=None, max_examples=40)
@given(GROUPS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_has_every_sample_once(
    groups: tuple[tuple[int, ...], ...], size: int, seed: int, number: int
) -> None:
    schedule = Schedule(groups, size, seed)
    batches = schedule.epoch(number)
    assert len(batches) == schedule.steps
    assert Counter(np.concatenate(batches).tolist()) == Counter(itertools.chain(*groups))
    owner = {sample: group for group in groups for sample in group}
    by_group: dict[tuple[int, ...], list[int]] = {}
    for batch in batches:
        (group,) = {owner[sample] for sample in batch.tolist()}
        by_group.setdefault(group, []).append(len(batch))
    for sizes in by_group.values():
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=40)
@given(GROUPS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_is_a_pure_function(
    groups: tuple[tuple[int, ...], ...], size: int, seed: int, number: int
) -> None:
    one, other = (Schedule(groups, size, seed).epoch(number) for _ in range(2))
    assert [b.tolist() for b in one] == [b.tolist() for b in other]


def test_epochs_and_seeds_differ() -> None:
    groups = (tuple(range(40)),)
    orders = {
        tuple(np.concatenate(Schedule(groups, 8, seed).epoch(number)).tolist())
        for seed in (1, 2)
        for number in (0, 1)
    }
    assert len(orders) == 4
    draws = {alteration(seed, step).random() for seed in (1, 2) for step in (0, 1)}
    assert len(draws) == 4


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_some_samples_are_held_out(total: int, share: float) -> None:
    chosen = held_out_samples(total, share)
    assert sorted(set(chosen)) == list(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < total
    wanted = round(share * total)
    assert len(chosen) == (1 if total == 1 else min(max(1, wanted), total - 1))


def test_held_out_samples_are_spread_without_a_period() -> None:
    chosen = held_out_samples(200, 0.15)
    assert len(chosen) == 30
    assert all(part * 200 // 30 <= n < (part + 1) * 200 // 30 for part, n in enumerate(chosen))
    for period in (2, 3, 5, 10):
        assert len({n % period for n in chosen}) == period
