"""Where two graphs begin to differ: found among many tensors by looking at few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.analysis.correspondence import corresponding
from graphopt.pipeline import probe_feeds
from graphopt.pipeline.parting import Parting, Search, first_parting
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

LENGTH = 200


def chain(wrong: int | None = None, prefix: str = "t") -> Graph:
    """Return a chain of additions and negations; one addition may be a subtraction."""
    lines = []
    for i in range(LENGTH):
        before = f"{prefix}{i}" if i else "x"
        op = "Neg" if i % 3 == 0 else "Sub" if i == wrong else "Add"
        lines.append(f"{prefix}{i + 1} = {op} ({before}{'' if op == 'Neg' else ', c'})")
    body = "\n".join([*lines, f"y = Abs ({prefix}{LENGTH})"])
    return graph(f"m (float[N, 4] x) => (float[N, 4] y) <float[4] c> {{ {body} }}")


def parting(a: Graph, b: Graph, tolerance: float = 1e-5) -> tuple[Parting, int]:
    found = first_parting(a, b, probe_feeds(a, [], 0).feeds, tolerance)
    assert found is not None
    assert found[0] == 0
    assert not found[1]
    return found[2], found[3]


@pytest.mark.parametrize("wrong", [1, 70, 199])
def test_the_first_of_many_tensors_is_found_by_looking_at_few(wrong: int) -> None:
    found, looked_at = parting(chain(), chain(wrong))
    assert found.tensor == found.other == f"t{wrong + 1}"
    assert found.nodes == ((f"Add `t{wrong + 1}`",), (f"Sub `t{wrong + 1}`",))
    assert found.agreed == (f"t{wrong}",)
    assert looked_at < 40
    assert found.values is not None
    assert found.values[0] != found.values[1]


def test_equal_models_do_not_part() -> None:
    assert first_parting(chain(), chain(), probe_feeds(chain(), [], 0).feeds, 0.0) is None


def test_other_names_are_found_by_structure() -> None:
    found, _ = parting(chain(), chain(100, "other"))
    # Behind the fault nothing has the same structure but the output has the same name.
    assert found.agreed[-1] == "t100"
    assert "Sub `other101`" in found.nodes[1]
    names = corresponding(chain(), chain(None, "other"))
    assert names["t17"] == "other17"
    assert len(names) == LENGTH + 1


def test_a_fault_that_one_branch_hides_is_found_in_the_other() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y) <float[4] c, float zero = {0.0}> {
      a = OP (x, c)
      b = Mul (a, zero)
      d = Add (b, x)
      e = Neg (a)
      y = Add (d, e) }"""
    found, _ = parting(graph(text.replace("OP", "Add")), graph(text.replace("OP", "Sub")))
    assert found.tensor == "a"
    assert found.agreed == ()


def test_a_region_that_was_rewritten_is_named_as_a_whole() -> None:
    one = graph("""m (float[N, 4] x) => (float[N, 4] y) <float[4] c> {
      p = Add (x, c)
      q = Mul (p, p)
      r = Sqrt (q)
      y = Neg (r) }""")
    other = graph("""m (float[N, 4] x) => (float[N, 4] y) <float[4] c> {
      p = Add (x, c)
      y = Neg (p) }""")
    found, _ = parting(one, other)
    assert found.tensor == "y"
    assert found.agreed == ("p",)
    assert found.nodes == (("Neg `y`", "Sqrt `r`", "Mul `q`"), ("Neg `y`",))


def test_tensors_of_another_shape_are_left_out() -> None:
    text = """m (float[N, 2, 2] x) => (float[N, 2, 2] y) {
      h = Flatten <axis = 1> (x)
      s = Shape (x)
      p = Reshape (h, s)
      y = OP (p) }"""
    one = graph(text.replace("OP", "Neg"))
    other = graph(text.replace("axis = 1", "axis = 0").replace("OP", "Abs"))
    found, _ = parting(one, other)
    assert found.tensor == "y"
    assert found.agreed == ("p",)


def test_another_shape_or_nan_of_an_output_is_a_difference() -> None:
    one = graph("m (float[N, 4] x) => (float[A, B] y) { y = Neg (x) }")
    turned = graph("m (float[N, 4] x) => (float[A, B] y) { y = Transpose (x) }")
    found, _ = parting(one, turned)
    assert (found.place, found.values) == (None, None)
    assert found.error == np.inf
    root = graph("m (float[N, 4] x) => (float[A, B] y) { z = Sqrt (x)\ny = Neg (z) }")
    found, _ = parting(one, root)
    assert found.error == np.inf
    assert found.place is not None


def test_the_runtime_takes_part_only_when_asked() -> None:
    made = chain()
    feed = probe_feeds(made, [], 0).feeds[0]
    assert Search(made, chain(), feed, 1e-6, optimize=True).first() is None
