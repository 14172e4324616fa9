"""A model too large to be opened as a whole goes through the same compile."""

from __future__ import annotations

import pytest

import graphopt
from graphopt.pipeline import verifier
from graphopt.runtime import partwise
from graphopt.testing import graph

CHAIN = """g (float[a, 64] x) => (float[a, 64] y) <float[64, 96] w, float[96, 64] v>
{ n = MatMul(x, w) \n r = Relu(n) \n y = MatMul(r, v) }"""


def test_large_models_are_checked_in_parts_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = graphopt.compile(graph(CHAIN), recipe="weight-only", measure=False)
    monkeypatch.setattr(verifier, "CENSUS_LIMIT", 0)
    monkeypatch.setattr(partwise, "WHOLE_LIMIT", 0)
    monkeypatch.setattr(partwise, "PART_BYTES", 0)
    parts = graphopt.compile(graph(CHAIN), recipe="weight-only", measure=True)
    assert [n.code for n in parts.report.notices] == ["W503"]
    assert parts.to_bytes() == whole.to_bytes()
    first, second = (
        next(p for p in c.report.passes if p.name == "quantize-weights") for c in (whole, parts)
    )
    assert first.snr_db is not None
    # Float rounding at the borders of parts.
    assert second.snr_db == pytest.approx(first.snr_db, abs=0.1)
