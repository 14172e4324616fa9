"""The page in Chromium: it fits a phone, follows the colours of the system, and asks for nothing.

With GRAPHOPT_SCREENSHOTS=FOLDER the pictures are kept there, to be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from graphopt.page import page
from tests.unit.page import records
from tests.unit.page.windows import CUT_OFF, OVERFLOW, TALLEST, keep, opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "plain": page(records.report(text="/layer1/layer1.0/conv1/Conv"), records.search()),
        "hostile": page(records.report(text=records.HOSTILE), records.hostile_search()),
        "long": page(records.report(60, 200, "a_name_without_a_break" * 20), records.search()),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("plain", 390, "light"),
        ("plain", 390, "dark"),
        ("plain", 1280, "light"),
        ("plain", 1280, "dark"),
        ("hostile", 390, "light"),
        ("long", 390, "light"),
        ("long", 1280, "light"),
    ],
)
def test_it_fits_and_asks_for_nothing(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    tab, heard = opened(browser, pages[name], width, scheme)
    assert heard == [pages[name].as_uri()]
    assert tab.evaluate(OVERFLOW) <= 0
    assert tab.evaluate(CUT_OFF) == 0
    assert tab.evaluate(TALLEST) > 100
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)")
    assert len(keep(tab, f"{name}-{width}-{scheme}")) > 20_000
    tab.context.close()


def test_the_plots_take_the_colours_of_the_page(browser: Any, pages: dict[str, Path]) -> None:
    seen = []
    for scheme in ("light", "dark"):
        tab, _ = opened(browser, pages["plain"], 1280, scheme)
        script = "getComputedStyle(document.querySelector('figure svg text')).fill"
        seen.append(tab.evaluate(script))
        tab.context.close()
    assert len(set(seen)) == 2


def test_tables_are_whole_on_paper(browser: Any, pages: dict[str, Path]) -> None:
    tab, _ = opened(browser, pages["plain"], 794, "dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    script = "[...document.querySelectorAll('.box')].map(e => getComputedStyle(e).overflowY)"
    assert set(tab.evaluate(script)) == {"visible"}
    keep(tab, "paper")
    tab.context.close()
