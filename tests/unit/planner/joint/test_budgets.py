"""Budgets as they are written, and which models exceed them."""

from __future__ import annotations

import pytest

from graphopt.errors import RecipeError
from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Figures

ORIGINAL = Figures(latency_ms=10.0, size_bytes=1_000_000, ram_bytes=400_000, energy=1.0)


@pytest.mark.parametrize(
    ("name", "text", "value", "relative"),
    [
        ("max_latency", "5ms", 5.0, False),
        ("max_latency", "250us", 0.25, False),
        ("max_latency", "0.6x", 0.6, True),
        ("max_latency", "3", 3.0, False),
        ("max_size", "500kB", 500e3, False),
        ("max_size", "1MiB", 2.0**20, False),
        ("max_ram", "320KB", 320 * 1024.0, False),
        ("max_energy", "2mJ", 2.0, False),
        ("max_energy", "0.5 x", 0.5, True),
    ],
)
def test_a_budget_is_read(name: str, text: str, value: float, relative: bool) -> None:
    bound = getattr(Budgets.parse({name: text}), name)
    assert (bound.value, bound.relative, bound.text) == (pytest.approx(value), relative, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("max_latency", "5kB"), ("max_size", "fast"), ("max_ram", "0x"), ("max_energy", "-1mJ")],
)
def test_what_is_no_budget_is_refused_with_an_example(name: str, text: str) -> None:
    with pytest.raises(RecipeError, match="is not a budget") as caught:
        Budgets.parse({name: text})
    assert caught.value.code == "G103"
    assert "write" in (caught.value.hint or "")


def test_excesses_are_of_what_was_stated() -> None:
    budgets = Budgets.parse({"max_latency": "0.5x", "max_size": "500kB", "max_ram": "1MB"})
    made = Figures(latency_ms=6.0, size_bytes=400_000, ram_bytes=300_000)
    assert budgets.excesses(made, ORIGINAL) == {"max_latency": pytest.approx(1.2)}
    assert budgets.stated == {"max-latency": "0.5x", "max-size": "500kB", "max-ram": "1MB"}


def test_energy_that_is_not_known_is_no_excess() -> None:
    made = Figures(latency_ms=6.0, size_bytes=1, ram_bytes=1, energy=None)
    assert Budgets.parse({"max_energy": "0.1x"}).excesses(made, ORIGINAL) == {}
