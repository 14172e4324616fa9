"""What graphopt exports exists, is documented, and is all that it exports."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt import ir
from graphopt.errors import CODES, GraphOptError, LimitError
from graphopt.passes import patterns

if TYPE_CHECKING:
    from collections.abc import Iterator


def public() -> Iterator[tuple[str, Any]]:
    for module in (graphopt, ir, patterns):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


THINGS = [(name, thing) for name, thing in public() if not isinstance(thing, str)]


def test_the_list_is_sorted_and_has_no_doubles() -> None:
    for module in (graphopt, ir, patterns):
        assert list(module.__all__) == sorted(set(module.__all__))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'graphopt' has no attribute 'nonsense'"):
        _ = graphopt.nonsense


def test_a_star_import_works_and_brings_exactly_the_list() -> None:
    code = (
        "before = set(globals()); from graphopt import *; print(*sorted(set(globals()) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - {"before"} == set(graphopt.__all__)


@pytest.mark.parametrize(("name", "thing"), THINGS, ids=[name for name, _ in THINGS])
def test_every_public_name_is_documented(name: str, thing: Any) -> None:
    first = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    assert re.search(r"[.:]$", first), f"{name}: {first!r}"
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        function = value.fget if isinstance(value, property) else value
        if member.startswith("_") or not inspect.isfunction(function):
            continue
        assert inspect.getdoc(function), f"{name}.{member} has no docstring"


def signatures() -> Iterator[tuple[str, Any]]:
    """Yield the public functions and methods outside graphopt.ir, which is the door itself."""
    for name, thing in THINGS:
        if name == "graphopt.hookimpl" or thing.__module__.startswith("graphopt.ir"):
            continue
        for member, value in vars(thing).items() if inspect.isclass(thing) else [("", thing)]:
            if inspect.isfunction(value) and not member.startswith("_"):
                yield f"{name}.{member}".rstrip("."), value


def test_no_public_signature_names_a_library_behind_the_door() -> None:
    told = {
        f"{name}: {annotation}"
        for name, function in signatures()
        for annotation in inspect.get_annotations(function).values()
        if re.search(r"\b(onnx|gs|onnx_graphsurgeon|onnxruntime|pluggy)\.", str(annotation))
    }
    assert told == set()


def subclasses(kind: type[GraphOptError]) -> Iterator[type[GraphOptError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def test_every_error_is_of_one_tree_with_a_listed_code_and_an_exit_code() -> None:
    for kind in subclasses(GraphOptError):
        assert kind.default_code in CODES
        assert kind.exit_code == (1 if issubclass(kind, LimitError) else 2)


def test_a_code_that_is_not_listed_cannot_be_raised() -> None:
    with pytest.raises(LookupError, match="G999"):
        GraphOptError("nothing", code="G999")
