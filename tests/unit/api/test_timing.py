"""When a race of two models may end early, and when it must not."""

from __future__ import annotations

import pytest

from graphopt.api.timing import NEVER_SLOWER, _is_clear


def samples(before: float, *ratios: float) -> dict[str, list[float]]:
    """Return rounds in milliseconds in which ``after`` had these ratios to ``before``."""
    return {"before": [before] * len(ratios), "after": [before / ratio for ratio in ratios]}


@pytest.mark.parametrize(
    ("before", "ratios", "clear"),
    [
        (1.0, (1.1, 1.1, 1.1, 1.1), False),  # too few rounds of a fast model
        (1.0, (1.1, 1.1, 1.1, 1.1, 1.1), True),
        (1.0, (0.9, 1.0, 1.0, 1.0, 1.0), True),  # one disturbed round
        (1.0, (0.9, 0.9, 1.0, 1.1, 1.2), False),
        (1.0, (0.9, 0.9, 0.9, 0.9, 0.9), False),
        (30.0, (1.0,), False),
        (30.0, (1.0, 1.0), True),  # two rounds of a slow model
        (30.0, (0.9, 1.2), False),
    ],
)
def test_a_race_ends_early_when_nothing_speaks_against_the_result(
    before: float, ratios: tuple[float, ...], clear: bool
) -> None:
    assert _is_clear(samples(before, *ratios), NEVER_SLOWER) is clear
