"""Samples come out of memory with the bits that they went in with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphopt_torch.samples.storage import Storage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

KINDS = ["float16", "float64", "int64", "int32", "uint8", "bool"]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int, *, last: bool = False) -> list[np.ndarray[Any, Any]]:
    bytes_of = np.random.default_rng(0).integers(0, 256, (count, 1, 24, 20, 3))
    scaled = (bytes_of / 255 - MEAN) / DEVIATION
    return list((scaled if last else scaled.transpose(0, 1, 4, 2, 3)).astype(np.float32))


def stored(values: list[np.ndarray[Any, Any]]) -> Storage:
    made = Storage()
    for one in values:
        made.append(one)
    return made


def same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_pictures_made_of_bytes_take_a_byte_for_each_value(last: bool) -> None:
    given_ = pictures(5, last=last)
    made = stored(given_)
    assert made.nbytes == sum(p.nbytes for p in given_) // 4
    assert same_bits(made.stacked([3, 0, 3]), np.stack([given_[3], given_[0], given_[3]]))


def test_what_has_more_values_is_kept_as_it_is() -> None:
    noise = np.random.default_rng(1).standard_normal((1, 3, 24, 20)).astype(np.float32)
    given_ = [*pictures(3), noise, *pictures(1)]
    made = stored(given_)
    assert made.nbytes == sum(p.nbytes for p in given_)
    assert same_bits(made.stacked(range(5)), np.stack(given_))


def test_a_zero_keeps_its_sign() -> None:
    values = np.array([[0.0, -0.0, 1.0]], np.float32)
    assert same_bits(stored([values, values]).stacked([1]), values[None])


def test_samples_may_differ_in_shape() -> None:
    given_ = [np.arange(n, dtype=np.int64)[None] for n in (3, 5, 3)]
    made = stored(given_)
    assert [made.shape(n) for n in range(3)] == [(1, 3), (1, 5), (1, 3)]
    assert same_bits(made.stacked([0, 2]), np.stack([given_[0], given_[2]]))


def test_some_are_forgotten() -> None:
    given_ = pictures(6)
    made = stored(given_)
    made.keep([1, 4])
    assert len(made) == 2
    assert made.nbytes == given_[0].nbytes // 2
    assert same_bits(made.stacked([1]), given_[4][None])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        arrays(
            np.float32,
            st.sampled_from([(1, 3, 2, 2), (1, 7), (1, 2, 2, 3), (1, 4, 2, 2)]),
            elements=st.floats(-2, 2, width=32) | st.sampled_from([-0.0, 0.0, float("inf")]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_everything_comes_back(values: list[np.ndarray[Any, Any]]) -> None:
    made = stored(values)
    for position, one in enumerate(values):
        assert same_bits(made.stacked([position])[0], one)


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["float16", "float64", "int64", "int32", "uint8", "bool"]), st.integers(0, 9)
)
def test_every_element_type_comes_back(kind: str, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 300, (4, 1, 90)).astype(kind)
    assert same_bits(stored(list(values)).stacked(range(4)), values)
