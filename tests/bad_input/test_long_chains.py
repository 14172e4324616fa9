"""Graphs longer than Python may recurse: each exact pass gets through them."""

from __future__ import annotations

import sys

import pytest

from graphopt import ir
from graphopt.testing import context, graph
from tests.backend.exact import EXACT_PASSES

LENGTH = 1100
KINDS = {
    "unary": ("Neg ({0})", "Abs ({0})", "Relu ({0})", "Identity ({0})", "Sigmoid ({0})"),
    "moved": ("Transpose <perm = [1, 0]> ({0})", "Reshape ({0}, s)", "Unsqueeze ({0}, z)",
              "Squeeze ({0}, z)"),
    "binary": ("Add ({0}, o)", "Mul (o, {0})", "Sub ({0}, o)", "Add ({0}, x)"),
    "joined": ("Concat <axis = 1> ({0}, x)", "Slice ({0}, z, t, w)"),
    "constant": ("Add ({0}, o)", "Mul ({0}, o)"),
}  # fmt: skip


def _chain(kind: str) -> ir.Graph:
    lines, last = [], "o" if kind == "constant" else "x"
    for index in range(LENGTH):
        spelled = KINDS[kind][index % len(KINDS[kind])].format(last)
        last = f"a{index}"
        lines.append(f"{last} = {spelled}")
    body = "\n".join([*lines, f"y = Neg ({last})"])
    return graph(f"""g (float[4, 4] x) => (float[M, 4] y)
    <float[1] o = {{1.0}}, int64[2] s = {{4, 4}}, int64[1] z = {{0}}, int64[1] t = {{4}},
     int64[1] w = {{1}}> {{ {body} }}""")


@pytest.mark.parametrize("kind", KINDS)
def test_long_chains_need_no_recursion(kind: str) -> None:
    assert sys.getrecursionlimit() < LENGTH
    model = _chain(kind)
    for make in EXACT_PASSES.values():
        changed = model.copy()
        make().run(changed, context())
        changed.sort()
        ir.verify(changed)
