"""What a search has made so far, on disk: a killed search goes on where it was.

One SQLite file beside a folder of models. Only the process that leads the search writes; each
result is committed at once, and a model is complete under its name or not there.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any, Self

from graphopt.errors import ModelError
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.report import ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VERSION = 1
_SCHEMA = """
create table if not exists made (key text primary key, content text not null);
create table if not exists timed (key text primary key, content text not null);
"""


class Store:
    """The folder of a search.

    Args:
        folder: is created; holds ``search.sqlite`` and ``models/``.

    Raises:
        ModelError: G208, the folder cannot be written, or is not that of a search.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        try:
            self.models.mkdir(parents=True, exist_ok=True)
            self._open(folder / "search.sqlite")
        except (OSError, sqlite3.Error) as error:
            raise ModelError(
                f"the folder of the search cannot be used: {error}",
                code="G208",
                where=str(folder),
                hint="choose another with `--folder`",
            ) from error

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute("pragma journal_mode = wal")
        version = self._database.execute("pragma user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise sqlite3.DatabaseError(f"it was written by another version ({version})")
        self._database.executescript(_SCHEMA)
        self._database.execute(f"pragma user_version = {_VERSION}")
        self._database.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def find(self, key: str) -> Made | None:
        """Return what an earlier run made under a key; None where its model is gone."""
        content = self._find("made", key)
        if content is None:
            return None
        made = _made(content)
        if made.digest and not self.path(made.digest).is_file():
            return None
        return dataclasses.replace(made, reused=True)

    def add(self, made: Made, model: Path | None) -> None:
        """Keep a result, and the file of its model under a name of its own."""
        path = self.path(made.digest)
        if model is not None and not path.is_file():
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            try:
                part.hardlink_to(model)
            except OSError:  # another file system, or one without links
                shutil.copyfile(model, part)
            part.replace(path)
        self._add("made", made.key, dataclasses.asdict(made))

    def path(self, digest: str) -> Path:
        """Return where the model of a digest lies."""
        return self.models / f"{digest[:16]}.onnx"

    def timed(self, key: str) -> dict[str, float] | None:
        """Return what an earlier run measured under a key."""
        return self._find("timed", key)

    def add_timed(self, key: str, found: Mapping[str, float]) -> None:
        """Keep what was measured."""
        self._add("timed", key, dict(found))

    def _find(self, table: str, key: str) -> dict[str, Any] | None:
        query = f"select content from {table} where key = ?"  # noqa: S608 - names are ours
        row = self._database.execute(query, (key,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def _add(self, table: str, key: str, content: Mapping[str, Any]) -> None:
        query = f"insert or replace into {table} values (?, ?)"  # noqa: S608 - names are ours
        self._database.execute(query, (key, json.dumps(content, sort_keys=True)))
        self._database.commit()


def _made(content: Mapping[str, Any]) -> Made:
    told = dict(content)
    candidate = told.pop("candidate")
    figures, score = told.pop("figures"), told.pop("score")
    candidate["overrides"] = tuple(candidate["overrides"])
    return Made(
        Candidate(**candidate),
        figures=Figures(**figures) if figures else None,
        score=ScoreRecord(**score) if score else None,
        **told,
    )
