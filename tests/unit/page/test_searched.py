"""`graphopt search --html`: the page of a search that was run, in Chromium."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from graphopt.cli.main import main
from tests.unit.page.windows import CUT_OFF, OVERFLOW, TALLEST, keep, opened

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    told = ("--target", "x86", "--max-drop", "1%", "--effort", "quick", "--workers", "1")
    files = ("--folder", str(folder / "search"), "-o", str(folder / "made.onnx"), "--html")
    data = ("--data", str(MODELS / "digits_test.npz"))
    assert main(["search", str(MODELS / "digits_resnet.onnx"), *data, *told, *files]) == 0
    return folder / "made.html"


def test_the_page_tells_what_was_tried_and_why(page: Path) -> None:
    text = html.unescape(page.read_text(encoding="utf-8"))
    facts = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    points = facts["search"]["points"]
    assert len(points) >= 3
    assert sum(p["chosen"] for p in points) == 1
    for point in points:
        assert point["label"] in text
        assert point["why"] in text
    assert facts["search"]["guarantee"] in text
    assert facts["sensitivity"] is not None
    for layer in facts["layers"]:
        assert layer["node"] in text


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_is_read_on_a_phone_and_in_the_dark(
    browser: Any, page: Path, width: int, scheme: str
) -> None:
    tab, heard = opened(browser, page, width, scheme)
    assert heard == [page.as_uri()]
    assert tab.evaluate(OVERFLOW) <= 0
    assert tab.evaluate(CUT_OFF) == 0
    assert tab.evaluate(TALLEST) > 100
    keep(tab, f"searched-{width}-{scheme}")
    tab.context.close()
