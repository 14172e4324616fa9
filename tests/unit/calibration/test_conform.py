"""Feeds against input declarations: what is cast, what is refused, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.calibration.base import InputSpec
from graphopt.calibration.conform import check_type, conform
from graphopt.errors import DataError

Shape = tuple[int | str | None, ...] | None


def specs(**inputs: tuple[Shape, str]) -> dict[str, InputSpec]:
    return {name: InputSpec(name, shape, dtype) for name, (shape, dtype) in inputs.items()}


def fails(feed: dict[str, np.ndarray], inputs: dict[str, InputSpec], code: str) -> DataError:
    with pytest.raises(DataError) as caught:
        conform(feed, inputs, sample=7, where="calib.npz")
    assert caught.value.code == code
    assert caught.value.where is not None
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("float64", "float32"),
        ("float16", "float32"),
        ("float32", "float16"),
        ("float32", "bfloat16"),
        ("int32", "int64"),
        ("int64", "int32"),
        ("uint8", "int64"),
        ("bool", "int64"),
        (">f4", "float32"),
        (">i8", "int64"),
    ],
)
def test_safe_casts(found: str, wanted: str) -> None:
    values = np.array([[0, 1, 1]], dtype=found)
    feed = conform({"x": values}, specs(x=((1, 3), wanted)), sample=0, where="here")
    assert feed["x"].dtype.name == wanted
    assert feed["x"].dtype.isnative
    np.testing.assert_array_equal(feed["x"].astype(np.float64), [[0, 1, 1]])


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("uint8", "float32"),
        ("int64", "float32"),
        ("float32", "int64"),
        ("float32", "uint8"),
        ("int8", "bool"),
        ("complex64", "float32"),
        ("U3", "float32"),
        ("float32", "object"),
    ],
)
def test_unsafe_casts_are_refused(found: str, wanted: str) -> None:
    error = fails({"x": np.zeros((1, 3), found)}, specs(x=((1, 3), wanted)), "G212")
    assert f"`x` expects {wanted}" in error.message
    assert np.dtype(found).name in error.message


def test_pixels_for_a_float_input_point_to_preprocessing() -> None:
    error = fails({"x": np.zeros((1, 3), np.uint8)}, specs(x=((1, 3), "float32")), "G212")
    assert error.message == "input `x` expects float32 and the data is uint8"
    assert "preprocessing" in str(error.hint)


def test_integers_that_do_not_fit_are_refused() -> None:
    error = fails({"x": np.array([[2**40]])}, specs(x=((1, 1), "int32")), "G212")
    assert str(2**40) in error.message


def test_text_inputs() -> None:
    feed = conform(
        {"x": np.array([["a", "bcd"]])}, specs(x=(("N", 2), "object")), sample=0, where=""
    )
    assert feed["x"].tolist() == [["a", "bcd"]]
    assert feed["x"].dtype == object


def test_arrays_become_contiguous_and_keep_their_shape() -> None:
    fortran = np.asfortranarray(np.ones((2, 3), np.float32))
    feed = conform(
        {"x": fortran, "s": np.float32(3), "more": fortran},
        specs(x=((2, 3), "float32"), s=((), "float32")),
        sample=0,
        where="here",
    )
    assert list(feed) == ["x", "s"]
    assert feed["x"].flags.c_contiguous
    assert feed["s"].shape == ()


def test_missing_name_suggests_the_nearest() -> None:
    inputs = specs(input_ids=(None, "int64"), mask=(None, "int64"))
    error = fails({"inputs_ids": np.zeros(1), "mask": np.zeros(1)}, inputs, "G212")
    assert "`input_ids`" in error.message
    assert "rename `inputs_ids` to `input_ids`" in str(error.hint)
    error = fails({}, inputs, "G212")
    assert "no array" in str(error.hint)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 8, 8), "batch axis"),
        ((1, 8, 8, 3), "transpose"),
        ((1, 3, 9, 9), "size"),
        ((8,), "4 dimensions"),
    ],
)
def test_wrong_shapes(shape: tuple[int, ...], hint: str) -> None:
    inputs = specs(x=(("N", 3, 8, 8), "float32"))
    error = fails({"x": np.zeros(shape, np.float32)}, inputs, "G212")
    assert "[N, 3, 8, 8]" in error.message
    assert hint in str(error.hint)
    assert "sample 7" in str(error.where)


def test_symbols_are_free_and_consistent() -> None:
    inputs = specs(a=(("N", "T"), "float32"), b=(("N", None), "float32"))
    conform({"a": np.ones((2, 5)), "b": np.ones((2, 9))}, inputs, sample=0, where="here")
    error = fails({"a": np.ones((2, 5)), "b": np.ones((3, 5))}, inputs, "G212")
    assert "`N` is 2 in input `a` and 3 in input `b`" in error.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_name_input_and_sample(bad: float) -> None:
    values = np.ones((1, 4), np.float32)
    values[0, 2] = bad
    error = fails({"x": values}, specs(x=((1, 4), "float32")), "G214")
    assert "`x`" in error.message
    assert "sample 7" in error.message
    assert "1 of 4" in error.message


def test_overflow_in_a_cast_is_found() -> None:
    error = fails({"x": np.array([[1e300]])}, specs(x=((1, 1), "float32")), "G214")
    assert "as float32" in error.message


def test_empty_arrays() -> None:
    error = fails({"x": np.ones((1, 0), np.float32)}, specs(x=((1, "T"), "float32")), "G213")
    assert "[1, 0]" in error.message


def test_check_type_knows_extended_floats() -> None:
    spec = InputSpec("x", None, "bfloat16")
    check_type(np.dtype(np.float64), spec, "here")
    with pytest.raises(DataError):
        check_type(np.dtype(np.int8), spec, "here")
