"""Every code block of the documentation runs, or is what it claims to be.

- ``console``: lines that begin with ``$`` run in order in a folder that has the shipped models, and
  must succeed; what stands below them must be printed, where ``...`` means anything.
- ``python``: runs in the same folder.
- ``toml``: parses; one with ``version = 1`` is a valid recipe.
- ``sh``: is for the reader to run; its syntax is checked.
- A comment ``<!-- file: NAME -->`` before a block writes it into the folder first;
  ``<!-- same as: PATH -->`` says that the block is a file of the repository.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphopt.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = {
    p for p in PAGES if "<!-- Written by docs/generate.py" in p.read_text(encoding="utf-8")
}
PLUGINS = {
    "docs/tutorial/write-a-pass.md": "example",
    "docs/how-to/publish-a-plugin.md": "example",
    "docs/how-to/write-a-coupling-rule.md": "example-pruning",
    "docs/how-to/write-a-rewrite.md": "example-rewrite",
}
"""What a page needs of the example package; others run without plugins."""
BLOCK = re.compile(
    r"^(?:<!-- (?P<kind>file|same as): (?P<path>\S+) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
KNOWN = {"console", "python", "toml", "sh", "text"}


@dataclass(frozen=True)
class Block:
    """A fenced block, with what the comment above it says of a file."""

    language: str
    text: str
    kind: str | None
    path: str | None


def blocks(page: Path) -> list[Block]:
    return [
        Block(m["language"], textwrap.dedent(m["text"]), m["kind"], m["path"])
        for m in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tutorial's plugin installed, and `graphopt` as a command."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", folder]
    subprocess.run([*pip, *offline, ROOT / "plugins" / "graphopt-example"], check=True)
    command = folder / "commands" / "graphopt"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m graphopt "$@"\n', "utf-8")
    command.chmod(0o755)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder that the blocks run in."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


def environment(site: Path, page: Path) -> dict[str, str]:
    paths = [str(ROOT), str(site), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "COLUMNS": "80",
        "GRAPHOPT_NO_PROGRESS": "1",
        "GRAPHOPT_PLUGINS": PLUGINS.get(name_of(page), ""),
        "PATH": os.pathsep.join([str(site / "commands"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONWARNINGS": "error",
    }


def run(block: Block, folder: Path, variables: dict[str, str]) -> None:
    if block.kind == "file":
        assert block.path is not None
        (folder / block.path).write_text(block.text, encoding="utf-8")
    if block.kind == "same as":
        assert block.path is not None
        assert block.text == (ROOT / block.path).read_text(encoding="utf-8"), block.path
    elif block.language == "console":
        for command, output in commands(block.text):
            check_command(command, output, folder, variables)
    elif block.language == "python":
        done = shell([sys.executable, "-c", block.text], folder, variables)
        assert done.returncode == 0, done.stdout
    elif block.language == "toml":
        check_toml(block.text)
    elif block.language == "sh":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def commands(text: str) -> list[tuple[str, str]]:
    """Return each command of a console block, and the text below it."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append((command, output.rstrip("\n")))
    return found


def shell(
    command: list[str], folder: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )


def check_command(command: str, output: str, folder: Path, variables: dict[str, str]) -> None:
    assert command.startswith("graphopt "), f"only graphopt runs here, not `{command}`"
    done = shell(["bash", "-c", command], folder, variables)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    printed = "\n".join(line.rstrip() for line in done.stdout.rstrip("\n").splitlines())
    escaped = re.sub(r"([*?\[])", r"[\1]", output)
    # A line of only ... may also stand for no line at all.
    pattern = re.sub(r"(^|\n)\.\.\.(?=\n|$)", "*", escaped).replace("...", "*")
    assert fnmatch.fnmatchcase(printed, pattern), f"$ {command}\n{printed}\n--- wanted\n{output}"


def check_toml(text: str) -> None:
    table = tomllib.loads(text)
    if "version" in table:
        parse_recipe(text)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in GENERATED], ids=name_of)
def test_every_block_runs(page: Path, folder: Path, site: Path) -> None:
    variables = environment(site, page)
    for block in blocks(page):
        run(block, folder, variables)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language_that_is_checked(page: Path) -> None:
    fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
    found = blocks(page)
    assert len(fences) == 2 * len(found)
    assert {block.language for block in found} <= KNOWN


@pytest.mark.parametrize("page", sorted(GENERATED), ids=name_of)
def test_toml_of_generated_pages_is_valid(page: Path) -> None:
    for block in blocks(page):
        if block.language == "toml":
            check_toml(block.text)
