"""Quantities and columns as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.cli import layout

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (64_200, "64.2 k"), (11_689_512, "11.7 M"), (2.5e12, "2.50 T")],
)
def test_count(value: float, text: str) -> None:
    assert layout.count(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1023, "bytes", "1023 bytes"),
        (1024, "bytes", "1.0 KiB"),
        (46_765_670, "bytes", "44.6 MiB"),
        (3 << 40, "bytes", "3.0 TiB"),
        (12.94, "ms", "12.9 ms"),
        (0.00012, "", "1.2e-04"),
        (0.0312, "", "0.0312"),
        (1234.5, "us", "1234 us"),
        (None, "ms", "-"),
        (float("nan"), "ms", "-"),
        (float("inf"), "dB", "-"),
    ],
)
def test_quantity(value: float | None, unit: str, text: str) -> None:
    assert layout.quantity(value, unit) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(100, 19, "-81 %"), (100, 130, "+30 %"), (5, 5, "same"), (1000, 1001, "+0.1 %"), (0, 1, "")],
)
def test_change(before: float, after: float, text: str) -> None:
    assert layout.change(before, after) == text


def test_interval_and_plural_and_shape() -> None:
    assert layout.interval(9.8, 16, "ms") == "9.80 to 16.0 ms"
    assert layout.interval(1024, 2048, "bytes") == "1.0 KiB to 2.0 KiB"
    assert layout.plural(1, "pass", "passes") == "1 pass"
    assert layout.plural(1200, "node") == "1,200 nodes"
    assert layout.shape(()) == "scalar"
    assert layout.shape(None) == "any rank"


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert layout.printable("Conv\x1b[31m\r_1") == r"Conv\x1b[31m\r_1"
    assert layout.printable("größe\nzwei") == "größe\nzwei"


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=5))
def test_columns_keep_every_cell_and_no_trailing_space(rows: list[tuple[str, str, str]]) -> None:
    lines = layout.columns(rows, width=None)
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line == line.rstrip()
        assert line.isprintable()
        for cell in row:
            assert layout.printable(cell).rstrip() in line


@given(st.lists(st.text("abc ", max_size=200), min_size=1, max_size=4), st.integers(40, 120))
def test_the_last_column_stays_within_the_width(texts: list[str], width: int) -> None:
    rows = [("name", " ".join(word[:12] for word in text.split())) for text in texts]
    assert all(len(line) <= width for line in layout.columns(rows, width=width))
    kept = " ".join(" ".join(layout.columns(rows, width=width)).split())
    assert kept == " ".join(" ".join(" ".join(row).split()) for row in rows)
