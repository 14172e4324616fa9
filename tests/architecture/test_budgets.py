"""Files and functions stay small, and names say what things are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("graphopt", "plugins", "docs", "benchmarks", "models", "tests")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not {"build", "dist"} & set(path.relative_to(ROOT).parts)
)
SOURCES = [path for path in FILES if path.is_relative_to(ROOT / "graphopt")]
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION, MAX_HOOKSPECS = 400, 600, 50, 100
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function; its docstring is a contract, and may be as long as needed."""
    first, lines = function.body[0], (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 100


def budget(path: Path) -> int:
    return MAX_TEST_FILE if "tests" in path.relative_to(ROOT).parts else MAX_FILE


def test_no_file_is_longer_than_its_budget() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name_of(path): n for path, n in lines.items() if n > budget(path)} == {}


def test_no_function_is_longer_than_its_budget() -> None:
    long = {
        f"{name_of(path)}:{function.name}": length(function)
        for path in SOURCES
        for function in functions(path)
        if length(function) > MAX_FUNCTION
    }
    assert long == {}


def test_the_extension_surface_fits_on_a_screen() -> None:
    text = (ROOT / "graphopt" / "hookspecs.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_HOOKSPECS


def test_names_say_what_is_inside() -> None:
    vague = [name_of(p) for p in FILES if {*p.with_suffix("").parts} & SAYS_NOTHING]
    assert vague == []


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
def test_nothing_is_left_for_later_in_a_comment(mark: str) -> None:
    pattern = re.compile(rf"\b{mark}\b")
    texts = [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    marked = [name_of(p) for p in texts if pattern.search(p.read_text(encoding="utf-8"))]
    assert marked == []


def test_every_module_of_graphopt_says_in_a_sentence_what_it_is() -> None:
    silent = []
    for path in SOURCES:
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if not re.match(r"\S.{9,}[.!?:]$", doc.partition("\n\n")[0].replace("\n", " ")):
            silent.append(name_of(path))
    assert silent == []
