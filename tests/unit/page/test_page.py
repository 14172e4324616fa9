"""The page: complete, escaped, closed to the network, bounded, the same for the same records."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphopt.errors import GraphOptError
from graphopt.page import available, page
from graphopt.report.stored import read_report, report_text
from tests.unit.page import records
from tests.unit.page.markup import Tree

if TYPE_CHECKING:
    from graphopt.report import SearchRecord

ROOT = Path(__file__).resolve().parents[3]
STYLE = (files("graphopt.page") / "templates" / "page.css").read_text("utf-8")
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def text() -> str:
    return page(records.report(), records.search())


@pytest.fixture(scope="module")
def tree(text: str) -> Tree:
    return Tree(text)


def test_every_element_is_closed_and_every_name_is_unique(tree: Tree) -> None:
    assert tree.faults == []
    names = [a["id"] for _, a in tree.elements if "id" in a]
    assert len(names) == len(set(names))
    targets = {a["href"][1:] for _, a in tree.elements if "href" in a}
    assert targets <= set(names)


def test_it_tells_what_was_asked_for(tree: Tree) -> None:
    for words in (
        "90.9 %", "0.800 % lost", "95 %", "293.0 KiB", "measured",
        "estimated", "0.200 to 0.400 ms", "--max-drop 1%", "at most 1 point is lost",
        "112 to calibrate, 1,000 others to validate", "candidate best", "too lossy",
        "stopped early", "made by an earlier run", "conv0", "64 → 32", "31.0 dB", "W501",
        "rolled back", "min-snr-db = 10.0", "Before: 12 kernels", "After: 15 kernels",
        "onnxruntime conv", "Training", "quantized, by distill-weights", "250",
    ):  # fmt: skip
        assert words in tree.words, words


def test_headings_go_down_one_level_at_a_time(tree: Tree) -> None:
    levels = [int(tag[1]) for tag, _ in tree.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_pictures_and_boxes_have_names(tree: Tree) -> None:
    drawings = tree.all("svg")
    assert len(drawings) == 4
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)
    assert all(a["aria-label"] for a in tree.all("div") if a.get("role") == "region")
    assert len(tree.all("title")) > 30


@pytest.mark.parametrize("hostile", [False, True])
def test_it_reads_nothing_and_runs_nothing(hostile: bool, text: str) -> None:
    if hostile:
        text = page(records.report(text=records.HOSTILE), records.hostile_search())
    tree = Tree(text)
    assert tree.faults == []
    assert not tree.all("script", "link", "img", "iframe", "object", "embed", "base", "form")
    policy = [a["content"] for a in tree.all("meta") if a.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    for tag, attributes in tree.elements:
        assert not {k for k in attributes if k.startswith("on") or k in {"src", "srcset"}}, tag
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith("#"), (tag, attributes)
        assert "url(" not in attributes.get("style", ""), (tag, attributes)
        assert attributes.get("clip-path", "url(#").startswith("url(#")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "://" not in STYLE


def test_hostile_names_are_shown_as_they_are() -> None:
    tree = Tree(page(records.report(text=records.HOSTILE), records.hostile_search()))
    assert tree.words.count("<script>alert('x')</script>") > 40
    assert "{{ 7*7 }}" in tree.words
    assert "{49}" not in tree.words


def test_the_same_records_give_the_same_bytes(text: str) -> None:
    code = (
        "import sys; from graphopt.page import page; from tests.unit.page import records; "
        "sys.stdout.buffer.write(page(records.report(), records.search()).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())},
    )
    assert done.stdout.decode() == text


def test_what_it_shows_is_in_the_json() -> None:
    """A page that is made from the report as it was stored is the same page."""
    made = records.report()
    assert page(read_report(report_text(made))) == page(made)


def test_it_stays_small_whatever_the_model() -> None:
    long = "a/long/path/" * 30
    huge = page(records.report(3000, 5000, long), records.search(2000))
    assert len(huge.encode()) < LIMIT
    words = Tree(huge).words
    assert "2,700 more layers, which take less time, are in the JSON" in words
    assert "2,880 more layers, which are less noisy, are in the JSON" in words


def test_a_report_with_nothing_in_it_has_a_page() -> None:
    bare = dataclasses.replace(
        records.report(0), candidates=(), explanations=(), notices=(), calibration=None,
        precision=None, pruning=None, kernels=None, sensitivity=None, passes=(), figures=(),
    )  # fmt: skip
    tree = Tree(page(bare))
    assert tree.faults == []
    assert "No noise was measured" in tree.words
    assert not tree.all("svg")


def test_a_search_that_knows_no_latency_has_no_plot() -> None:
    found: SearchRecord = dataclasses.replace(
        records.search(0), points=(records.point("bad", "failed", None, None),)
    )
    tree = Tree(page(records.report(), found))
    assert len(tree.all("svg")) == 2
    assert "candidate bad" in tree.words


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda _: None)
    with pytest.raises(GraphOptError) as caught:
        page(records.report())
    assert caught.value.code == "G110"
    assert caught.value.hint == 'pip install "graphopt[html]"'


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_contrast_as_wcag_asks(scheme: int) -> None:
    colours = _colours(re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme])
    for behind in (colours["bg"], colours["panel"]):
        assert _contrast(colours["fg"], behind) >= 7
        for name in ("muted", "accent", "good", "bad", "chosen"):
            assert _contrast(colours[name], behind) >= 4.5, name
        for name in ("f32", "f16", "i8", "w"):
            assert _contrast(colours[name], behind) >= 3, name
