"""Pages in windows of Chromium: opened, measured, and kept as pictures where that is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
TALLEST = "Math.max(...[...document.querySelectorAll('svg')].map(e => e.getBBox().height))"
CUT_OFF = """[...document.querySelectorAll('h1, h2, h3, p, dd, li')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).length"""


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
