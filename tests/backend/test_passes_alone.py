"""Every exact pass on its own, with nothing to check it, on the backend cases of onnx.

A pass that only the pipeline's check saves is wrong all the same. Most cases are one operator with
every operand an input; passes have more to do where operands are constants or sizes are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session
from graphopt.testing import context
from tests.backend.cases import groups, load, with_constants, with_open_dimensions
from tests.backend.exact import EXACT_PASSES, assert_equal_outputs

if TYPE_CHECKING:
    import onnx

    from tests.backend.cases import Case, Feed

RTOL, ATOL = 1e-3, 1e-6
"""Between two graphs; atol is a share of the largest value of each output."""
_FOLDING = ("eliminate-dead", "eliminate-identity", "fold-constants", "fold-shapes")


def check(name: str, model: onnx.ModelProto, feed: Feed, passes: tuple[str, ...]) -> None:
    """Run each pass on the model: honest, legal, and of the same outputs where it runs at all."""
    data = model.SerializeToString()
    try:
        before = ir.from_bytes(data)
        ir.verify(before)
    except GraphOptError:
        return
    kept = ir.structural_hash(before)
    wanted = _outputs(data, feed)
    for key in passes:
        after = before.copy()
        result = EXACT_PASSES[key]().run(after, context())
        after.sort()
        changed = ir.structural_hash(after) != kept
        assert changed == result.modified, f"{key} on {name} is not honest"
        if not changed:
            continue
        ir.verify(after)
        if wanted is None:
            continue
        found = open_session(after, optimize=False).run(feed)
        who = f"{key} on {name}"
        assert_equal_outputs(wanted, found, rtol=RTOL, atol=ATOL, scaled=True, who=who)


def _outputs(data: bytes, feed: Feed) -> list[Any] | None:
    try:
        return open_session(data, optimize=False).run(feed)
    except GraphOptError:
        return None


def first_feed(case: Case) -> Feed:
    return case.sets[0][0]


def is_small(case: Case) -> bool:
    return case.model.ByteSize() < 1 << 20 and not case.name.startswith("light_")


@pytest.mark.parametrize(
    "group",
    [pytest.param(g, marks=pytest.mark.slow) if g.startswith("light/") else g for g in groups()],
)
def test_on_cases_as_they_are(group: str) -> None:
    for case in load(group):
        check(case.name, case.model, first_feed(case), tuple(EXACT_PASSES))


@pytest.mark.parametrize("group", groups())
def test_with_all_operands_but_the_first_stored(group: str) -> None:
    for case in load(group):
        stored = with_constants(case, 1) if is_small(case) else None
        if stored is not None and not case.name.endswith("_expanded"):
            check(f"{case.name} with constants", *stored, tuple(EXACT_PASSES))


@pytest.mark.slow
@pytest.mark.parametrize("group", groups())
def test_with_everything_stored(group: str) -> None:
    for case in load(group):
        stored = with_constants(case, 0) if is_small(case) else None
        if stored is not None:
            check(f"{case.name}, all stored", *stored, _FOLDING)


@pytest.mark.slow
@pytest.mark.parametrize("group", groups())
def test_with_constants_in_expanded_functions(group: str) -> None:
    for case in load(group):
        stored = with_constants(case, 1) if case.name.endswith("_expanded") else None
        if stored is not None:
            check(f"{case.name} with constants", *stored, tuple(EXACT_PASSES))


@pytest.mark.slow
@pytest.mark.parametrize("group", groups())
def test_with_open_dimensions(group: str) -> None:
    for case in load(group):
        if first_feed(case) or case.name.startswith("light_"):
            check(f"{case.name} opened", *with_open_dimensions(case), tuple(EXACT_PASSES))
