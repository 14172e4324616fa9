"""Backend cases of the onnx package: what torch can execute returns what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from graphopt_torch.execution import Program, to_torch

from graphopt import ir
from graphopt.errors import GraphOptError
from tests.backend.cases import groups, load

if TYPE_CHECKING:
    import torch

    from tests.backend.cases import Case

TOLERANCE = 1e-4
COARSE = {"float16": 1e-3, "bfloat16": 2**-6}
"""About two units in the last place of types that have fewer digits."""
WIDENED = {"uint16", "uint32", "uint64", "int4", "uint4", "int2", "uint2"}
"""Types that are held in another one."""

LISTED = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "its outputs are stated to four digits",
    "test_identity_sequence": "feeds a list of tensors",
    "test_identity_opt": "feeds a list of tensors",
    "test_PReLU_1d_multiparam": "is of opset 6, and onnx rewrites its slope wrongly",
    "test_PReLU_2d_multiparam": "is of opset 6, and onnx rewrites its slope wrongly",
    "test_PReLU_3d_multiparam": "is of opset 6, and onnx rewrites its slope wrongly",
}
"""Cases that can be executed and are not compared, with the reason."""

FEWEST_EXECUTED = {"node": 1450, "simple": 7, "pytorch": 90}
GROUPS = [g for g in groups() if not g.startswith("light/")]
_executed: dict[str, int] = {}


def _program(case: Case) -> Program | None:
    """Return the program of a case; None where it cannot be executed, in words."""
    try:
        return Program.of(ir.from_bytes(case.model.SerializeToString()))
    except GraphOptError:
        return None


def _assert_equal(wanted: Any, found: torch.Tensor, who: str) -> None:
    name = wanted.dtype.name
    if name not in WIDENED:
        assert str(found.dtype) == f"torch.{name}", who
    other = (found.float() if name == "bfloat16" else found).numpy()
    assert other.shape == wanted.shape, who
    if wanted.dtype.kind in "iub" or name.startswith(("int", "uint")):
        np.testing.assert_array_equal(other.astype(np.int64), wanted.astype(np.int64), err_msg=who)
        return
    rtol = COARSE.get(name, TOLERANCE)
    one, other = wanted.astype(np.float64), other.astype(np.float64)
    np.testing.assert_allclose(other, one, rtol=rtol, atol=rtol / 10, err_msg=who)


@pytest.mark.parametrize("group", GROUPS)
def test_backend_cases(group: str) -> None:
    for case in load(group):
        program = _program(case)
        if program is None or case.name in LISTED:
            continue
        for feed, wanted in case.sets:
            found = program.run({n: to_torch(np.asarray(v)) for n, v in feed.items()})
            for name, one in zip(program.outputs, wanted, strict=False):
                _assert_equal(one, found[name], f"{case.name}, {name}")
        kind = group.partition("/")[0].partition("-")[0]
        _executed[kind] = _executed.get(kind, 0) + 1


def test_as_many_cases_are_executed_as_before() -> None:
    if set(_executed) != {"node", "model", "simple", "pytorch"}:
        pytest.skip("only some groups were run")
    short = {k: _executed[k] for k, fewest in FEWEST_EXECUTED.items() if _executed[k] < fewest}
    assert not short


def test_the_list_names_only_cases_that_can_be_executed() -> None:
    cases = {case.name: case for group in GROUPS for case in load(group)}
    assert {name for name in LISTED if _program(cases[name]) is None} == set()
