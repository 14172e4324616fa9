"""What is kept of options from one search to the next."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.passes.prune.branches.fit import Fitted
from graphopt.passes.prune.branches.linear import Kind, Linear
from graphopt.planner.pruning.fitted_file import kept_fits
from graphopt.planner.pruning.scorebook import ScoreBook
from graphopt.planner.pruning.scores import Scorer
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul(x, w) }"


def book(path: Path) -> ScoreBook:
    return ScoreBook(Scorer(graph(MODEL), []), path)


def never() -> Any:
    raise AssertionError("it is known")


def test_units_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    masks = [np.arange(13) % 3 > 0, np.arange(13) < 4]
    made = book(path).units("site", ["9@l2", "4@l2"], lambda: masks)
    again = book(path).units("site", ["9@l2", "4@l2"], never)
    for mask, one, other in zip(masks, made, again, strict=True):
        np.testing.assert_array_equal(one, mask)
        np.testing.assert_array_equal(other, mask)


def test_prices_are_kept_for_each_target_apart(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    book(path).prices("site", "8", "arm", lambda: {"latency": 0.25, "macs": 10.0})
    assert book(path).prices("site", "8", "arm", never)["macs"] == 10.0
    with pytest.raises(AssertionError, match="it is known"):
        book(path).prices("site", "8", "x86", never)


def test_searches_write_to_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    books = [book(path) for _ in range(4)]

    def write(each: ScoreBook) -> None:
        for number in range(50):
            each.prices(f"site {number}", "8" * 200, "host", lambda n=number: {"macs": float(n)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, books))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 200
    assert all(json.loads(line)[0] == "price" for line in lines)
    assert book(path).known == 50


def fits() -> dict[str, Fitted]:
    random = np.random.default_rng(0)
    beside = Linear(random.random((4, 3, 3, 3)), random.random(4), (1, 2), (0, 1, 1, 0), 0.25, 1e-3)
    inside = Linear(random.random((3, 4)), random.random(4), error=float("inf"))
    return {
        "conv": Fitted({Kind.LIN3: beside}, {Kind.LIN1: "why not"}, random.random(4)),
        "product": Fitted({Kind.MERGED1: inside}, channel_axis=-1),
    }


def test_fits_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "fits.npz"
    made, again = kept_fits(path, fits), kept_fits(path, never)
    assert list(made) == list(again)
    for name, one in made.items():
        other = again[name]
        assert (other.declined, other.channel_axis) == (one.declined, one.channel_axis)
        assert (other.mean is None) == (one.mean is None)
        for kind, linear in one.linears.items():
            np.testing.assert_array_equal(other.linears[kind].weight, linear.weight)
            np.testing.assert_array_equal(other.linears[kind].bias, linear.bias)
            for part in ("strides", "pads", "error", "ridge"):
                assert getattr(other.linears[kind], part) == getattr(linear, part)


def test_a_file_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "fits.npz"
    kept_fits(path, fits)
    path.write_bytes(path.read_bytes()[:-100])
    assert list(kept_fits(path, fits)) == ["conv", "product"]
    assert list(kept_fits(path, never)) == ["conv", "product"]
