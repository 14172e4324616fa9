"""Whether onnxruntime runs a case as it stands and returns what it should; otherwise why not."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session, versions
from tests.backend.exact import assert_equal_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.backend.cases import Case

LIST = Path(__file__).with_name("unjudged.toml")
NO_KERNEL = "no-kernel"
NOT_FED = "not-fed"
DIFFERS = "differs"

_reasons: dict[str, str | None] = {}


def reason(case: Case) -> str | None:
    """Return why the case cannot be judged: a key of the list; None when it can."""
    if case.name not in _reasons:
        _reasons[case.name] = _reason(case)
    return _reasons[case.name]


def _reason(case: Case) -> str | None:
    try:
        session = open_session(case.model.SerializeToString(), optimize=False)
    except GraphOptError:
        return NO_KERNEL
    for feed, wanted in case.sets:
        try:
            found = session.run(feed)
        except GraphOptError:
            return NOT_FED
        try:
            assert_equal_outputs(wanted, found, rtol=case.rtol, atol=case.atol, who=case.name)
        except AssertionError:
            return DIFFERS
    return None


def judged(cases: Iterable[Case]) -> list[Case]:
    """Return the cases that can be judged; one that cannot, and is not listed, is a failure."""
    found = []
    for case in cases:
        why = reason(case)
        if why is None:
            found.append(case)
        elif is_listed_version():
            assert case.name in listed()[why], (
                f"`{case.name}` cannot be judged ({why}), which {LIST.name} does not say"
            )
    return found


@functools.cache
def listed() -> Mapping[str, frozenset[str]]:
    """Return the names of the cases that cannot be judged, by reason."""
    read = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return {key: frozenset(read[key]["cases"]) for key in (NO_KERNEL, NOT_FED, DIFFERS)}


@functools.cache
def is_listed_version() -> bool:
    """Whether the list was made with the installed onnx and onnxruntime."""
    wanted = tomllib.loads(LIST.read_text(encoding="utf-8"))["versions"]
    return {key: versions()[key] for key in wanted} == wanted


def graph_of(case: Case) -> ir.Graph:
    """Return the case's model as graphopt reads it."""
    return ir.from_bytes(case.model.SerializeToString())
