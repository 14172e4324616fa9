"""Golden files: the options of one pass, a graph before it, and the graph after it, as text.

A file holds TOML, then ``--- input`` and ONNX text, then ``--- expected`` and what the pass reports
and returns. The TOML names the pass (``use``) and its options; ``[context]`` may hold ``target``
and ``ranges``. ``pytest --update-golden`` writes what the passes do now; review the diff.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt import ir
from graphopt.recipe import PassEntry, instantiate
from graphopt.registry import Registry
from graphopt.runtime import open_session
from graphopt.testing import assert_same_outputs, context, graph, random_feeds
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.passes.base import Pass, PassResult
    from graphopt.testing import Recorder

FOLDER = Path(__file__).parent
CASES = sorted(FOLDER.glob("*/*.txt"))
TOLERANCE = 1e-5
"""Relative and absolute: exact passes may round differently, and do nothing else."""


@dataclass(frozen=True)
class Golden:
    """One file, taken apart."""

    options: dict[str, Any]
    text: str
    expected: str

    @classmethod
    def read(cls, path: Path) -> Golden:
        head, _, rest = path.read_text(encoding="utf-8").partition("--- input\n")
        text, _, expected = rest.partition("--- expected\n")
        return cls(tomllib.loads(head), text, expected)

    def make_pass(self) -> Pass:
        given = {k: v for k, v in self.options.items() if k not in {"use", "context"}}
        entry = PassEntry(self.options["use"], given)
        return instantiate(entry, Registry(plugins=()).pass_class(entry.use))

    def make_context(self) -> Recorder:
        given = self.options.get("context", {})
        ranges = given.get("ranges")
        pairs = None if ranges is None else {k: tuple(v) for k, v in ranges.items()}
        return context(target=given.get("target", "x86-avx512-vnni"), ranges=pairs)


def render(result: PassResult, asked: Recorder, after: ir.Graph) -> str:
    lines = ["changed" if result.modified else "unchanged"]
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"because {node}: {reason}" for node, reason in sorted(asked.reasons.items())]
    return "\n".join([*lines, ir.to_text(after)])


def test_there_are_golden_files() -> None:
    assert len({path.parent.name for path in CASES}) >= 6


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_pass_does_what_the_file_says(path: Path, pytestconfig: pytest.Config) -> None:
    golden = Golden.read(path)
    step, asked = golden.make_pass(), golden.make_context()
    before = graph(golden.text)
    after = before.copy()
    result = step.run(after, asked)
    after.sort()
    found = render(result, asked, after)
    if pytestconfig.getoption("--update-golden"):
        head, mark, _ = path.read_text(encoding="utf-8").partition("--- expected\n")
        path.write_text(f"{head}{mark or '--- expected' + chr(10)}{found}", encoding="utf-8")
    else:
        assert found == golden.expected
    check(step, before, after, result)


def check(step: Pass, before: ir.Graph, after: ir.Graph, result: PassResult) -> None:
    """Check what holds for every pass: legality, honesty, outputs, and rest on the second run."""
    ir.verify(after)
    assert result.modified == (ir.structural_hash(before) != ir.structural_hash(after))
    feeds = random_feeds(before, count=2)
    if step.effect is Effect.EXACT:
        assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        open_session(after).run(feeds[0])
    rested = ir.structural_hash(after)
    again = step.run(after, context())
    assert not again.modified
    assert ir.structural_hash(after) == rested
