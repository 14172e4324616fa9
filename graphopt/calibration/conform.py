"""Does the data fit the model? Names, shapes, element types and values of one feed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from graphopt.calibration.base import Array, InputSpec, InputSpecs

    NumpyType = np.dtype[np.generic]


def conform(
    feed: Mapping[str, Array], inputs: InputSpecs, *, sample: int, where: str
) -> dict[str, Array]:
    """Return one feed with every array in the model's element type, in the model's order.

    Args:
        feed: an array per model input; others are dropped.
        inputs: what the model expects.
        sample: index of the sample, for error messages.
        where: the file or the data, for error messages.

    Raises:
        DataError: G212, a missing input, a wrong shape or element type; G213, an array without
            values; G214, NaN or infinity.
    """
    check_names(feed, inputs, where)
    check_shapes({name: feed[name].shape for name in inputs}, inputs, f"{where}, sample {sample}")
    return {
        name: _values(feed[name], spec, sample, f"{where}, sample {sample}")
        for name, spec in inputs.items()
    }


def check_names(found: Iterable[str], inputs: InputSpecs, where: str) -> None:
    """Raise DataError G212 when an input has no array; suggests the nearest name."""
    names = list(found)
    for name in inputs:
        if name in names:
            continue
        close = difflib.get_close_matches(name, names, n=1)
        listed = ", ".join(f"`{other}`" for other in names) or "no array"
        suggestion = f"rename `{close[0]}` to `{name}`; " if close else ""
        raise DataError(
            f"the data has no array for input `{name}`",
            code="G212",
            where=where,
            hint=f"{suggestion}the data has {listed}",
        )


def check_shapes(shapes: Mapping[str, tuple[int, ...]], inputs: InputSpecs, where: str) -> None:
    """Raise DataError G212 when a shape differs from the declared one.

    A symbolic dimension takes any size, but one size in one sample.
    """
    bound: dict[str, tuple[int, str]] = {}
    for name, spec in inputs.items():
        shape = shapes[name]
        if spec.shape is None:
            continue
        if len(shape) != len(spec.shape):
            raise _wrong_shape(spec, shape, where)
        for size, declared in zip(shape, spec.shape, strict=True):
            if isinstance(declared, int) and size != declared:
                raise _wrong_shape(spec, shape, where)
            if isinstance(declared, str):
                _bind(declared, size, name, bound, where)
                _check_bounds(declared, size, spec, where)


def _check_bounds(symbol: str, size: int, spec: InputSpec, where: str) -> None:
    low, high = spec.bounds.get(symbol, (0, size))
    if not low <= size <= high:
        raise DataError(
            f"`{symbol}` of input `{spec.name}` is {size} in the data, and {low} to {high} was "
            "stated",
            code="G212",
            where=where,
            hint="state other bounds, or leave these samples out",
        )


def check_type(found: NumpyType, spec: InputSpec, where: str) -> None:
    """Raise DataError G212 when values of one element type may not be given to an input.

    Allowed are float to float, integer to integer (values are checked later), bool to integer, and
    text to text. Integers never become floats silently: pixels 0..255 are not what a model that
    was trained on normalised images expects.
    """
    wanted = numpy_type(spec.dtype)
    if found == wanted or _is_castable(found, wanted):
        return
    hint = f"convert the array to {spec.dtype}"
    if found.kind in "iu" and is_float(wanted):
        hint = (
            f"convert the array to {spec.dtype} with the values that the model was trained on, or "
            "declare preprocessing (scale, mean, std) for uint8 images"
        )
    raise DataError(
        f"input `{spec.name}` expects {spec.dtype} and the data is {found.name}",
        code="G212",
        where=where,
        hint=hint,
    )


def numpy_type(name: str) -> NumpyType:
    """Return the numpy type of a name; bfloat16 and the 8-bit floats come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        extended: NumpyType = np.dtype(getattr(ml_dtypes, name))
        return extended


def is_float(dtype: NumpyType) -> bool:
    """Whether a numpy type is floating point, those of ml_dtypes included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def shape_text(shape: Iterable[int | str | None]) -> str:
    """Return a shape as people write it: ``[N, 3, 32, ?]``."""
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _is_castable(found: NumpyType, wanted: NumpyType) -> bool:
    if wanted.kind in "OUS":
        return found.kind in "OUS"
    if wanted.kind in "iu":
        return found.kind in "iub"
    return is_float(wanted) and is_float(found)


def _values(array: Array, spec: InputSpec, sample: int, where: str) -> Array:
    check_type(array.dtype, spec, where)
    if array.size == 0:
        raise DataError(
            f"input `{spec.name}` has no values: its shape is {shape_text(array.shape)}",
            code="G213",
            where=where,
            hint="every dimension needs a size of at least 1",
        )
    wanted = numpy_type(spec.dtype)
    if is_float(array.dtype):
        _check_finite(array, spec, where, f"holds {{}} in sample {sample}")
    if wanted.kind in "iu":
        _check_range(array, wanted, spec, where)
    if wanted.kind in "OUS":
        return array.astype(object)
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
    if is_float(wanted) and wanted.itemsize < array.dtype.itemsize:
        _check_finite(cast, spec, where, f"becomes {{}} as {spec.dtype} in sample {sample}")
    return cast


def _check_finite(array: Array, spec: InputSpec, where: str, fact: str) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    kind = "NaN" if np.isnan(array).any() else "infinity"
    raise DataError(
        f"input `{spec.name}` {fact.format(kind)} "
        f"({finite.size - np.count_nonzero(finite)} of {finite.size} values)",
        code="G214",
        where=where,
        hint="remove the sample, or repair what computes it",
    )


def _check_range(array: Array, wanted: NumpyType, spec: InputSpec, where: str) -> None:
    if np.can_cast(array.dtype, wanted):
        return
    limits = np.iinfo(wanted.name)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise DataError(
            f"input `{spec.name}` expects {spec.dtype} and the data has values from {low} to "
            f"{high}",
            code="G212",
            where=where,
            hint=f"{spec.dtype} holds {limits.min} to {limits.max}",
        )


def _wrong_shape(spec: InputSpec, shape: tuple[int, ...], where: str) -> DataError:
    declared = spec.shape or ()
    hint = f"the model expects {len(declared)} dimensions, the batch included"
    if len(shape) == len(declared) - 1:
        hint = "add a batch axis in front: `array[None]`"
    elif len(shape) == len(declared):
        hint = "give the data in the size that the model was made for"
        fixed = sorted(size for size in declared[1:] if isinstance(size, int))
        if len(fixed) == len(shape) - 1 and fixed == sorted(shape[1:]):
            hint = "the sizes are right and their order is not: transpose the array"
    return DataError(
        f"input `{spec.name}` expects the shape {shape_text(declared)} and the data has "
        f"{shape_text(shape)}",
        code="G212",
        where=where,
        hint=hint,
    )


def _bind(symbol: str, size: int, name: str, bound: dict[str, tuple[int, str]], where: str) -> None:
    """Note the size of a symbolic dimension, or compare it with the one noted before."""
    earlier, other = bound.setdefault(symbol, (size, name))
    if earlier != size:
        raise DataError(
            f"dimension `{symbol}` is {earlier} in input `{other}` and {size} in input `{name}`",
            code="G212",
            where=where,
            hint="inputs that share a symbolic dimension share its size in every sample",
        )
