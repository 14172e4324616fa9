"""Names that an inner graph shares with one around it, as converters make them up."""

from __future__ import annotations

from graphopt import ir
from graphopt.ir.names import separate_inner_names
from graphopt.runtime import open_session
from graphopt.testing import random_feeds, run

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N, 4] x, bool c) => (float[N, 4] y) {
  a = Neg (x)
  t = If (c) <
    then_branch = p () => (float[N, 4] u) { a = Abs (x)  b = Exp (a)  u = Neg (b) },
    else_branch = q () => (float[N, 4] v) { b = Sin (a)  v = Neg (b) }>
  b = Abs (t)
  y = Add (a, b) }"""


def test_inner_values_get_names_of_their_own() -> None:
    model = ir.parse(TEXT)
    assert separate_inner_names(model) == 3
    then, other = (n for n in model.nodes("If")[0].subgraphs)
    names = {v.name for g in (then, other) for v in g.values()}
    assert not names & {v.name for v in model.values()}
    apart = TEXT.replace("{ a = Abs (x)  b = Exp (a)  u = Neg (b) }",
                         "{ d = Abs (x)  e = Exp (d)  u = Neg (e) }")  # fmt: skip
    apart = apart.replace("{ b = Sin (a)  v = Neg (b) }", "{ f = Sin (a)  v = Neg (f) }")
    feed = random_feeds(model)[0]
    wanted = run(ir.parse(apart), feed)[0]
    assert (open_session(model).run(feed)[0] == wanted).all()
    assert separate_inner_names(model) == 0
