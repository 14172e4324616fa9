"""What is kept between runs of graph_optimisers.py: one JSON file a model, tool and measurement.

Keys hold everything that a result depends on, so a run that was interrupted goes on where it was,
and one after a change of graphopt measures only graphopt again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graph_tools import OURS, VERIFIED_ONLY, Tool
from torchvision_models import HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Row = dict[str, Any]
TIME_LIMIT = 7200
CERTAIN = 0.98
"""Speed below which a race is repeated."""
KEPT_BYTES = 16 << 20
"""Models that tools made of smaller ones than this are kept for a race that may come later."""


class NotKeptError(Exception):
    """A result that nothing may be measured for is not known."""


def digest(path: Path) -> str:
    """Return a digest of a model: of its size and of its first megabyte, which holds a graph."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
    return hashlib.sha256(head + str(path.stat().st_size).encode()).hexdigest()[:16]


def call(script: str, *arguments: str, given: Row | None = None, prefix: Sequence[str] = ()) -> Any:
    """Run one of the scripts beside this in a process of its own; return the JSON it prints."""
    command = [*prefix, sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(
        command,
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"refused": said[-1][:300] if said else f"exit status {done.returncode}"}
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Case:
    """A model of the corpus with all that is known of it.

    Args:
        name: of the model.
        model: its file.
        home: where results are kept.
        prefix: command that timed processes are started with, to have the machine alone.
        only_kept: measure nothing: NotKeptError where a tool was not run, nothing where it was
            only not timed.
    """

    name: str
    model: Path
    home: Path
    prefix: tuple[str, ...] = ()
    only_kept: bool = False

    @property
    def folder(self) -> Path:
        """Where results of this model are kept."""
        folder = self.home / f"{self.name}-{digest(self.model)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def kept(self, kind: str, key: str, make: Callable[[], Row], effort: float = 0.0) -> Row:
        """Return a result kept under this key, got with as much effort, or make it and keep it."""
        path = self.folder / f"{kind.replace(' ', '')}.json"
        if path.exists():
            row = json.loads(path.read_text())
            if row["key"] == key and row.get("effort", 0.0) >= effort:
                return dict(row)
        if self.only_kept:
            raise NotKeptError
        row = {"key": key, "effort": effort} | make()
        path.write_text(json.dumps(row))
        return row

    def original(self) -> Row:
        """Return what is known of the original."""
        key = hashlib.sha256(
            (HERE / "graph_judge.py").read_bytes() + (HERE / "graph_inputs.py").read_bytes()
        ).hexdigest()[:16]
        return self.kept("original", key, lambda: self._judged(self.model))

    def _judged(self, model: Path) -> Row:
        return dict(call("graph_judge.py", str(model), str(self.model), str(self.folder)))

    def output(self, tool: Tool) -> Path:
        """Return where a tool's model lies while it is there."""
        return self.folder / f"{tool.name.replace(' ', '')}.onnx"

    def made(self, tool: Tool) -> Row:
        """Return what a tool makes of the model, made and judged now when that is not known."""
        key = f"{tool.key()}-{self.original()['key']}"
        return self.kept(f"{tool.name}.made", key, lambda: self._make(tool))

    def _make(self, tool: Tool) -> Row:
        output = self.output(tool)
        output.unlink(missing_ok=True)
        commands = {tool.name: tool.command(self.model, output)}
        run = call("graph_timed.py", "1", given=commands)[tool.name][0]
        if run["status"] or not output.exists():
            return {"failed": run["said"] or f"exit status {run['status']}", "run": run}
        row = {"run": run} | self._judged(output)
        if output.stat().st_size > KEPT_BYTES:
            self.drop(tool)
        return row

    def drop(self, tool: Tool) -> None:
        """Delete a tool's model and what lies beside it."""
        output = self.output(tool)
        for path in self.folder.glob(f"{output.name}*"):
            path.unlink()

    def timed(self, tools: Sequence[Tool], rounds: int) -> dict[str, Row]:
        """Return seconds and memory of all tools that manage, measured in turn when not known."""
        if not rounds:
            return {}
        able = [t for t in tools if "failed" not in self.made(t)]
        key = "-".join(t.key() for t in able)

        def measure() -> Row:
            with tempfile.TemporaryDirectory(dir=self.folder) as name:
                commands = {
                    t.name: t.command(self.model, self.folder / name / f"{i}.onnx")
                    for i, t in enumerate(able)
                }
                runs = call("graph_timed.py", str(rounds), given=commands, prefix=self.prefix)
            return {"runs": runs}

        return dict(self._kept_or_none("timed", key, measure, rounds).get("runs", {}))

    def raced(self, tools: Sequence[Tool], seconds: float) -> Row:
        """Return how fast the models run against each other, measured now when not known."""
        if not seconds:
            return {}
        able = [t for t in tools if t.name != VERIFIED_ONLY and self._runs(t)]
        key = "-".join(t.key() for t in able)

        def measure() -> Row:
            for tool in able:
                if not self.output(tool).exists():
                    commands = {tool.name: tool.command(self.model, self.output(tool))}
                    call("graph_timed.py", "1", given=commands)
            paths = {"original": str(self.model), "original again": str(self.model)}
            paths |= {t.name: str(self.output(t)) for t in able}
            found = call("graph_race.py", str(seconds), given=paths, prefix=self.prefix)
            if max(found.get(OURS, {"lost": 1.0}).values()) < CERTAIN:
                # One race that is lost may be the clock's; a longer one is believed.
                longer = str(5 * seconds)
                found = call("graph_race.py", longer, given=paths, prefix=self.prefix)
            for tool in able:
                if self.output(tool).exists() and self.output(tool).stat().st_size > KEPT_BYTES:
                    self.drop(tool)
            return {"race": found}

        return dict(self._kept_or_none("raced", key, measure, seconds).get("race", {}))

    def _kept_or_none(self, kind: str, key: str, make: Callable[[], Row], effort: float) -> Row:
        """Return a result that a model is told of without, too."""
        try:
            return self.kept(kind, key, make, effort)
        except NotKeptError:
            return {}

    def _runs(self, tool: Tool) -> bool:
        made = self.made(tool)
        return "failed" not in made and "refused" not in made
