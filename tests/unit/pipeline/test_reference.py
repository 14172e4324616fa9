"""What is compared with, and which differences count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from graphopt.pipeline import Probes, Verifier, probe_feeds, usable_probes
from graphopt.pipeline.distance import output_errors
from graphopt.pipeline.reference import Reference
from graphopt.runtime import open_session, open_sparingly
from graphopt.testing import graph, named_target

LIMIT = 1e-4

# onnxruntime fuses this into one LayerNormalization although the scale has an axis more.
NORM = """m (float[N, 8] x) => (float[A, B, 8] y)
    <float[3, 1, 8] scale, float[8] shift, float two = {2.0}, float eps = {0.00001}> {
  mean = ReduceMean <axes = [-1]> (x)
  d = Sub (x, mean)
  square = Pow (d, two)
  variance = ReduceMean <axes = [-1]> (square)
  safe = Add (variance, eps)
  root = Sqrt (safe)
  n = Div (d, root)
  scaled = Mul (n, scale)
  y = Add (scaled, shift) }"""


def reference(text: str) -> Reference:
    model = graph(text)
    made = Reference(model, open_session)
    assert made.take(probe_feeds(model, [], 0)) is None
    return made


def test_the_reference_is_the_model_as_it_is_written() -> None:
    made = reference(NORM)
    assert [w[0].shape[0] for w in made.wanted] == [3, 3, 3]


def test_a_fault_of_the_optimiser_is_no_fault_of_a_pass() -> None:
    """The comparison falls back to both graphs as they are written, and finds them equal."""
    model = graph("m (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    wrong = graph("m (float[N, 4] x) => (float[N, 4] y) { y = Neg (x) }")
    made = Reference(model, lambda _: open_session(wrong))
    made.take(probe_feeds(model, [], 0))
    outputs = open_session(wrong).run(made.feeds[0])
    assert made.departs() is not None
    same = made.error(0, outputs, LIMIT, lambda: open_sparingly(model, optimize=False))
    assert same == 0.0
    other = made.error(0, outputs, LIMIT, lambda: open_sparingly(wrong, optimize=False))
    assert other is not None
    assert other > LIMIT


def test_what_is_as_wrong_as_the_optimiser_makes_it_is_looked_at_and_no_more() -> None:
    model = graph("m (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    near = graph("""m (float[N, 4] x) => (float[N, 4] y) <float c = {1.01}> {
      r = Relu (x)
      y = Mul (r, c) }""")
    made = Reference(model, lambda _: open_session(near))
    made.take(probe_feeds(model, [], 0))
    far = [w * np.float32(1.5) for w in made.wanted[0]]
    found = made.error(0, far, LIMIT, lambda: open_sparingly(model, optimize=False))
    assert found == pytest.approx(0.5)


def test_outputs_that_rounding_decides_are_not_compared() -> None:
    made = reference("""m (float[N, 4] x) => (float[N, 4] y, float[N, 4] z)
        <float big = {1e9}> {
      b = Mul (x, big)
      y = Sin (b)
      z = Relu (x) }""")
    assert made.noise(0)[0] > 0.1
    assert made.noise(0)[1] < LIMIT
    chaos = [np.sin(made.wanted[0][0] * 7), made.wanted[0][1]]
    assert made.error(0, chaos, LIMIT, made.session) == 0.0
    changed = [made.wanted[0][0], -made.wanted[0][1]]
    found = made.error(0, changed, LIMIT, made.session)
    assert found is not None
    assert found > 0.1


def test_random_numbers_move_by_themselves() -> None:
    made = reference("""m (float[N, 4] x) => (float[N, 4] y) {
      r = RandomNormalLike (x)
      y = Add (r, x) }""")
    assert made.error(0, made.run(made.feeds[0]), LIMIT, made.session) is None


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (np.ones(2, np.float32), np.ones(2), math.inf),
        ([np.ones(2), np.zeros(1)], [np.ones(2), np.full(1, 0.5)], 0.5e6),
        ([np.ones(2)], [np.ones(2), np.ones(2)], math.inf),
        ({"a": np.ones(1)}, {"a": np.ones(1)}, 0.0),
        ({"a": np.ones(1)}, {"a": np.zeros(1)}, math.inf),
        (np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]), math.inf),
        (np.array([np.inf, 1.0]), np.array([np.nan, 1.0]), math.inf),
        (None, None, 0.0),
    ],
)
def test_errors_of_single_outputs(wanted: Any, found: Any, expected: float) -> None:
    assert output_errors([wanted], [found]) == (pytest.approx(expected),)


def test_a_missing_output_is_an_infinite_error() -> None:
    assert output_errors([np.ones(1)], []) == (math.inf,)


def test_the_verifier_tells_when_the_optimiser_departs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph("m (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    verifier = Verifier(model, named_target("x86"), probe_feeds(model, [], 0), [])
    assert verifier.notices == []
    monkeypatch.setattr(Reference, "departs", lambda _: 0.5)
    (notice,) = verifier.notices
    assert notice.code == "W304"
    assert "by 0.5" in notice.message


def test_a_quantized_original_is_not_reproached_with_its_integers() -> None:
    model = graph("""m (float[N, 8] x) => (float[N, 8] y)
        <float[8, 8] w, float s = {0.02}, uint8 z = {128}, float t = {0.05}> {
      q = QuantizeLinear (x, s, z)
      d = DequantizeLinear (q, s, z)
      h = MatMul (d, w)
      p = QuantizeLinear (h, t, z)
      y = DequantizeLinear (p, t, z) }""")
    verifier = Verifier(model, named_target("x86"), probe_feeds(model, [], 0), [])
    assert verifier.check_exact(model, LIMIT).max_error is not None
    assert verifier.notices == []
    assert verifier.snr(verifier.original) == math.inf


def test_usable_probes_are_those_that_the_model_takes() -> None:
    model = graph("""m (float[N, T] x, float[M, S] z) => (float[A, B] y) {
      y = Add (x, z) }""")
    probes = usable_probes(model, probe_feeds(model, [], 0))
    assert probes.made_up is None
    for feed in probes.feeds:
        assert np.broadcast_shapes(feed["x"].shape, feed["z"].shape)
    refusing = Probes(({"x": np.zeros((2, 3), np.float32)},), "by hand")
    assert usable_probes(model, refusing).feeds == refusing.feeds
