"""What folding leaves alone, and why; everything else is in tests/golden/fold-constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.testing import Recorder, context, graph

if TYPE_CHECKING:
    import pytest

FOLDABLE = """m (float[N, 2] x) => (float[N, 2] y) <float[2] a> {
  [e] b = Exp (a)
  y = Add (x, b) }"""


def test_what_cannot_be_computed_stays_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ModelError("no kernel", code="G207")

    monkeypatch.setattr(Recorder, "run", fail)
    model, asked = graph(FOLDABLE), context()
    result = FoldConstants().run(model, asked)
    assert not result.modified
    assert asked.reasons == {"e": "could not be computed: no kernel"}
    assert [n.op for n in model.nodes()] == ["Exp", "Add"]


def test_shape_of_a_part_is_folded_to_that_part() -> None:
    model = graph("""m (float[2, 3, 4, 5] x) => (int64[A] y, int64[B] z) {
      s = Shape <start = 1, end = 3> (x)
      t = Shape <start = -1> (x)
      y = Neg (s)
      z = Neg (t) }""")
    FoldConstants().run(model, context())
    values = [v.array().tolist() for v in model.initializers]
    assert sorted(values) == [[3, 4], [5]]


def test_operators_of_other_domains_are_not_computed() -> None:
    model = ir.parse("""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    m (float[N, 2] x) => (float[N, 2] y) <float[2] a = {1.0, 2.0}> {
      b = com.microsoft.Gelu (a)
      y = Add (x, b) }""")
    assert not FoldConstants().run(model, context()).modified


def test_types_survive() -> None:
    model = graph("""m (float16[N, 2] x) => (float16[N, 2] y) <float16[2] a> {
      b = Neg (a)
      y = Add (x, b) }""")
    FoldConstants().run(model, context())
    (stored,) = [v for v in model.initializers if v.uses]
    assert stored.array().dtype == np.float16
