"""Models of old operator sets compute the same in newer ones, or are refused."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.runtime import open_session
from graphopt.testing import graph, random_feeds
from tests.backend.exact import assert_equal_outputs

IR_VERSIONS = {7: 4, 8: 4, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 16: 8, 17: 8, 18: 8}
NEWER = (13, 17, 21, 23)

SAMPLING = (
    *((10, f'Resize <mode = "{mode}"> (x, {scales})') for mode in ("nearest", "linear")
      for scales in ("up", "twice", "down")),
    *((9, f'Upsample <mode = "{mode}"> (x, {s})') for mode in ("nearest", "linear")
      for s in ("up", "twice")),
    *((7, f'Upsample <mode = "{mode}", scales = [1.0, 1.0, 2.0, 2.0]> (x)')
      for mode in ("nearest", "linear")),
)  # fmt: skip

SAME = (
    *((v, f"m (float[2, 3, 4] x) => (float[2, 3, 4] y) {{ y = {op} <axis = {axis}> (x) }}")
      for v in (7, 11) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, 2)),
    *((v, f"m (float[N, 3, M] x) => (float[N, 3, M] y) {{ y = {op} (x) }}")
      for v in (7, 12) for op in ("Softmax", "LogSoftmax")),
    (11, "m (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Hardmax <axis = -1> (x) }"),
    (9, "m (float[2, 4] x) => (float[2, 4] y) { y = Hardmax (x) }"),
    *((v, "m (float[2, 3] x) => (float[2, 3] y) { y = Clip <min = -0.5> (x) }") for v in (7, 10)),
    *((v, f'm (float[1, 2, 3, 3] x) => (float[1, 2, A, B] y) {{ y = Pad <mode = "{mode}", '
          f"pads = [0, 0, 1, {w}, 0, 0, {w}, 2], value = 0.5> (x) }}")
      for v in (7, 10) for mode, w in (("constant", -1), ("reflect", 1), ("edge", 2))),
    (9, "m (float[4, 5] x) => (float[A, B] y) "
        "{ y = Slice <starts = [1, 0], ends = [-1, 1000]> (x) }"),
    (9, "m (float[4, 6] x) => (float[4, 6] y) { y = Dropout <ratio = 0.5> (x) }"),
    *((v, "m (float[4, 6] x) => (float[4, 2] y, float[4, 4] z) "
          "{ y, z = Split <axis = 1, split = [2, 4]> (x) }") for v in (7, 11)),
    *((v, "m (float[2, 3, 4] x) => (float[A, B] y) { a = ReduceL2 <axes = [1]> (x) "
          "y = ReduceSum <axes = [1], keepdims = 0> (a) }") for v in (7, 11, 12)),
    (9, "m (float[2, 7] x) => (float[2, 3] y, int64[2, 3] i) { y, i = TopK <k = 3> (x) }"),
    (16, 'm (float[1, 1, 4, 4] x, float[1, 2, 2, 2] g) => (float[1, 1, 2, 2] y) '
         '{ y = GridSample <mode = "bilinear"> (x, g) }'),
    (17, "m (float[2, 8, 3, 1] x) => (float[A, B, C, D] y) { y = DFT <axis = 2> (x) }"),
    (10, "m (float[2, 3] x) => (float[2, 3] y) <bool c = {1}> { y = If (c) <"
         "then_branch = t () => (float[2, 3] p) { p = Clip <min = 0.0, max = 1.0> (x) },"
         "else_branch = e () => (float[2, 3] q) { q = Softmax (x) }> }"),
    (11, "m (float[2, 3] x) => (float[2, 3] y) <int64 t = {3}, bool c = {1}> { y = Loop (t, c, x) <"
         "body = g (int64 i, bool k, float[2, 3] a) => (bool l, float[2, 3] b) "
         "{ l = Identity (k) s = ReduceSum <axes = [1]> (a) b = Sub (a, s) }> }"),
)  # fmt: skip

REFUSED = (
    ("Hardmax", 11, "m (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Hardmax <axis = 1> (x) }"),
    ("Hardmax", 12, "m (float[N, 3, M] x) => (float[N, 3, M] y) { y = Hardmax (x) }"),
    ("mask of Dropout", 10,
     "m (float[4, 6] x) => (float[4, 6] y, bool[4, 6] z) { y, z = Dropout (x) }"),
    ("Scan", 8, "m (float[1] s, float[1, 3] x) => (float[1] t, float[1, 3] o) { t, o = Scan <"
                "num_scan_inputs = 1, body = g (float a, float b) => (float c, float d) "
                '{ c = Add (a, b) d = Identity (c) }> ("", s, x) }'),
    ("GroupNormalization", 18,
     "m (float[1, 4, 3, 3] x) => (float[1, 4, 3, 3] y) <float[2] s, float[2] b> "
     "{ y = GroupNormalization <num_groups = 2> (x, s, b) }"),
    ("scales", 10, "m (float[1, 1, 4, 4] x, float[4] s) => (float[A, B, C, D] y) "
                   '{ y = Resize <mode = "nearest"> (x, s) }'),
    ("branch", 10, "m (float[1, 1, 4, 4] x) => (float[A, B, C, D] y) <bool c = {1}, "
                   "float[4] s = {1, 1, 2, 2}> { y = If (c) <"
                   "then_branch = t () => (float[A, B, C, D] p) { p = Resize (x, s) },"
                   "else_branch = e () => (float[A, B, C, D] q) { q = Relu (x) }> }"),
    ("rewrite", 7, "m (float[2, 2, 1, 1] x) => (float[2, 2, 1, 1] y) <float[2, 1, 1] s, "
                   "float[2, 1, 1] b, float[2, 1, 1] m, float[2, 1, 1] v> "
                   "{ y = BatchNormalization <spatial = 0> (x, s, b, m, v) }"),
)  # fmt: skip


def model(version: int, text: str) -> ir.Graph:
    return graph(f'<ir_version: {IR_VERSIONS[version]}, opset_import: ["" : {version}]>\n{text}')


def check_same(before: ir.Graph) -> None:
    feeds = [f for size in (2, 3) for f in random_feeds(before, seed=size, size=size)]
    session = open_session(before, optimize=False)
    wanted = [session.run(f) for f in feeds]
    for version in [v for v in NEWER if v > before.opset]:
        after = before.copy()
        ir.upgrade_opset(after, version)
        ir.verify(after)
        found = open_session(after, optimize=False)
        for feed, one in zip(feeds, wanted, strict=True):
            assert_equal_outputs(one, found.run(feed), rtol=1e-5, atol=1e-5, who=f"opset {version}")


@pytest.mark.parametrize(("version", "text"), SAME)
def test_newer_operator_sets_compute_the_same(version: int, text: str) -> None:
    check_same(model(version, text))


@pytest.mark.parametrize(("version", "call"), SAMPLING)
def test_what_is_resized_is_sampled_where_it_was(version: int, call: str) -> None:
    constants = (
        "float[4] up = {1, 1, 2.5, 1.5}, float[4] twice = {1, 1, 2, 2}, "
        "float[4] down = {1, 1, 0.6, 0.7}"
    )
    text = f"m (float[1, 2, 6, 4] x) => (float[A, B, C, D] y) <{constants}> {{ y = {call} }}"
    check_same(model(version, text))


@pytest.mark.parametrize(("why", "version", "text"), REFUSED)
def test_what_the_converter_gets_wrong_is_refused(why: str, version: int, text: str) -> None:
    before = model(version, text)
    kept = ir.structural_hash(before)
    with pytest.raises(ModelError, match=why) as raised:
        ir.upgrade_opset(before, 23)
    assert raised.value.code == "G205"
    assert ir.structural_hash(before) == kept
