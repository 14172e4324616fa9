"""The page in Chromium: it fits a phone, follows the colours of the system, and asks for nothing.

With GRAPHOPT_SCREENSHOTS=FOLDER the pictures are kept there, to be looked at.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt.page import page
from tests.conftest import missing
from tests.unit.page import records

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
TALLEST = "Math.max(...[...document.querySelectorAll('svg')].map(e => e.getBBox().height))"
CUT_OFF = """[...document.querySelectorAll('h1, h2, h3, p, dd, li')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no Chromium: apt-get install chromium-headless-shell"
        if os.environ.get("GRAPHOPT_NO_BROWSER") == "1":
            pytest.skip(reason)
        missing(reason)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright: pip install playwright")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=QUIET, chromium_sandbox=False)
        yield made
        made.close()


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


def opened(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """Return the page in a window, and what it asked for or complained of."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab, heard = context.new_page(), []
    tab.on("request", lambda request: heard.append(request.url))
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("dialog", lambda dialog: heard.append(dialog.message))
    tab.goto(path.as_uri())
    return tab, heard


def keep(tab: Any, name: str) -> bytes:
    folder = os.environ.get("GRAPHOPT_SCREENSHOTS")
    path = Path(folder) / f"{name}.png" if folder else None
    taken: bytes = tab.screenshot(full_page=True, path=path)
    return taken


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
