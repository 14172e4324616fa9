"""Distances between outputs, and what a verifier does with models it cannot feed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.errors import PassError
from graphopt.pipeline import Probes, Verifier, probe_feeds, snr_db
from graphopt.pipeline.verifier import ExactCheck, relative_error
from graphopt.runtime import open_session
from graphopt.testing import graph, named_target

ONE = np.array([1.0, 2.0, -2.0], np.float32)


def test_snr_is_the_ratio_of_energies() -> None:
    assert snr_db([ONE], [ONE * np.float32(1.1)]) == pytest.approx(20.0, abs=1e-4)
    assert snr_db([ONE, ONE], [ONE, ONE * np.float32(1.1)]) == pytest.approx(23.01, abs=0.01)


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (ONE, ONE, math.inf),
        (np.zeros(3), np.zeros(3), math.inf),
        (np.zeros(3), ONE, -math.inf),
        (ONE, np.zeros(2), -math.inf),
        (ONE, np.array([1.0, np.nan, 0.0]), -math.inf),
        (np.array([1.0, -np.inf, 2.0]), np.array([1.0, -np.inf, 2.0]), math.inf),
    ],
)
def test_snr_at_the_edges(wanted: np.ndarray, found: np.ndarray, expected: float) -> None:
    assert snr_db([wanted], [found]) == expected


def test_snr_leaves_out_what_is_no_number() -> None:
    words = np.array(["a"], dtype=object)
    assert snr_db([words, ONE], [words, ONE]) == math.inf


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (ONE, ONE, 0.0),
        (ONE, ONE + np.float32(0.5), 0.25),
        (ONE, np.zeros(2), math.inf),
        (ONE, np.array([1.0, np.nan, 0.0]), math.inf),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), math.inf),
        (np.array(["a"], dtype=object), np.array(["a"], dtype=object), 0.0),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object), math.inf),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (np.zeros(0), np.zeros(0), 0.0),
    ],
)
def test_relative_error(wanted: np.ndarray, found: np.ndarray, expected: float) -> None:
    assert relative_error([wanted], [found]) == pytest.approx(expected)


def test_relative_error_is_of_the_worst_output_by_its_own_size() -> None:
    small = ONE * np.float32(1e-3)
    assert relative_error([ONE * 100, small], [ONE * 100, small * 2]) == pytest.approx(1.0)


def test_demands() -> None:
    verifier = Verifier(
        graph("m (float[2] x) => (float[2] y) { y = Relu (x) }"),
        named_target("arm"),
        Probes((), "nothing"),
        [],
    )
    assert not verifier.has_probes
    verifier.demand_exact(ExactCheck(None, {}), 1e-4, "p")
    verifier.demand_exact(ExactCheck(1e-4, {}), 1e-4, "p")
    for check, code in (
        (ExactCheck(2e-4, {}), "G303"),
        (ExactCheck(math.nan, {}), "G303"),
        (ExactCheck(0.0, {"FusedGemm": 2}), "G304"),
    ):
        with pytest.raises(PassError) as raised:
            verifier.demand_exact(check, 1e-4, "p")
        assert raised.value.code == code
    verifier.demand_snr(None, 10.0, "p")
    with pytest.raises(PassError, match=r"limit 10 dB"):
        verifier.demand_snr(-math.inf, 10.0, "p")


def test_probes_that_the_model_rejects_are_left_out_with_the_reason() -> None:
    text = """m (float[N, 4] x) => (float[A, B] y) <int64[2] s = {3, 8}> { y = Reshape (x, s) }"""
    model = graph(text)
    probes = probe_feeds(model, [], 0)
    verifier = Verifier(model, named_target("x86"), probes, [])
    assert not verifier.has_probes
    assert verifier.unusable is not None
    assert verifier.check_exact(model).max_error is None
    assert verifier.snr(open_session(model)) is None


def test_snr_prefers_held_out_samples_to_probes() -> None:
    model = graph("m (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }")
    offset = graph("""m (float[N, 2] x) => (float[N, 2] y) <float one = {1.0}> {
      z = Relu (x)
      y = Add (z, one) }""")
    held = [{"x": np.full((1, 2), v, np.float32)} for v in (10.0, 100.0)]
    verifier = Verifier(model, named_target("x86"), probe_feeds(model, held, 0), held)
    session = open_session(offset)
    assert verifier.snr(session, 1) == pytest.approx(20.0, abs=1e-6)
    assert verifier.snr(session) == pytest.approx(10 * math.log10(10100 / 2), abs=1e-6)
