"""Pages are linked, links lead somewhere, and generated pages are up to date and complete."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.cli.error_pages import PAGES as ERROR_PAGES
from graphopt.cli.main import COMMANDS
from graphopt.errors import CODES
from graphopt.recipe import Calibration, Limits, Preprocessing, Recipe, preset_names
from graphopt.recipe.schema import kebab
from graphopt.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST_COMMAND = re.compile(r"^python3 -m venv .*pytest$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [link for link in LINK.findall(text) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_index() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "index.md")}
    assert linked == {page for page in DOCS.rglob("*.md") if page.name != "index.md"}


def test_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    path = {"PYTHONPATH": str(ROOT), "GRAPHOPT_PLUGINS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    for name in ("generate.py", "rendering.py"):
        (tmp_path / name).write_text((DOCS / name).read_text("utf-8"), encoding="utf-8")
    (tmp_path / "reference").mkdir()
    path = {"PYTHONPATH": str(ROOT), "GRAPHOPT_PLUGINS": ""}
    command = [sys.executable, str(tmp_path / "generate.py")]
    assert subprocess.run([*command, "--check"], env=path, check=False).returncode == 1
    assert subprocess.run(command, env=path, check=False).returncode == 0
    (tmp_path / "reference" / "errors.md").write_text("old", encoding="utf-8")
    done = subprocess.run(
        [*command, "--check"], capture_output=True, text=True, env=path, check=False
    )
    assert (done.returncode, "errors.md" in done.stdout) == (1, True)


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_has_its_section(code: str) -> None:
    assert f"### {code}: {CODES[code]}\n" in reference("errors")
    assert all(ERROR_PAGES[code])


def test_no_error_page_is_left_over() -> None:
    assert set(ERROR_PAGES) == set(CODES)


def test_every_pass_has_its_section_with_every_option() -> None:
    page = reference("passes")
    for name, kind in Registry(plugins=()).passes().items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            row = re.search(rf"^\| `{kebab(field.name)}` \| .* \| (.*) \|$", section, re.MULTILINE)
            assert row, f"{name}.{field.name}"
            assert row[1], f"{name}.{field.name} is not explained in the docstring"


def test_every_target_has_its_section() -> None:
    page = reference("targets")
    named = [t for t in Registry(plugins=()).targets().values() if not t.is_host]
    assert all(f"\n## {target.name}\n" in page for target in named)
    assert all(f"`{alias}`" in page for target in named for alias in target.aliases)


def test_every_command_and_recipe_key_has_its_place() -> None:
    assert all(f"\n## graphopt {name}\n" in reference("cli") for name in COMMANDS)
    page = reference("recipe")
    for kind in (Recipe, Calibration, Preprocessing, Limits):
        for field in dataclasses.fields(kind):
            row = re.search(rf"^\| `{kebab(field.name)}` \| .* \| (.*) \|$", page, re.MULTILINE)
            assert row, field.name
            assert row[1], f"{kind.__name__}.{field.name} is not explained in the docstring"
    assert all(f"\n### {name}\n" in page for name in preset_names())


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(TEST_COMMAND.findall(text)) == 1
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f'grep -E "{TEST_COMMAND.pattern}" README.md' in ci
    assert 'bash -euo pipefail -c "$test_command"' in ci


def test_the_readme_has_two_commands_and_a_place_for_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^python3 .*pip install \. .*graphopt compile models/", text, re.MULTILINE)
    assert text.count("<!-- benchmarks:begin -->") == text.count("<!-- benchmarks:end -->") == 1


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
