"""What can stand in the place of branches, kept on disk from one search to the next."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.passes.prune.branches.fit import Fitted
from graphopt.passes.prune.branches.linear import Kind, Linear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, Any]

_LARGEST = 64 << 20
"""Bytes of operators that are kept."""
_ARRAYS = ("weight", "bias")


def kept_fits(path: Path | None, make: Callable[[], Mapping[str, Fitted]]) -> dict[str, Fitted]:
    """Return what was fitted for branches, by name: from a file, or made and written there.

    Args:
        path: under a hash of everything that fits depend on; None to keep nothing.
        make: fits them.
    """
    found = _read(path) if path is not None else None
    if found is not None:
        return found
    made = dict(make())
    size = sum(each.weight.nbytes for f in made.values() for each in f.linears.values())
    if path is not None and size <= _LARGEST:
        with suppress(OSError, GraphOptError):
            path.parent.mkdir(parents=True, exist_ok=True)
            ir.write_whole(path, _packed(made))
    return made


def _packed(fits: Mapping[str, Fitted]) -> bytes:
    arrays: dict[str, Array] = {}
    told = []
    for number, (name, each) in enumerate(fits.items()):
        if each.mean is not None:
            arrays[f"{number}.mean"] = each.mean
        for kind, linear in each.linears.items():
            arrays |= {f"{number}.{kind}.{part}": getattr(linear, part) for part in _ARRAYS}
        told.append(
            {
                "name": name,
                "axis": each.channel_axis,
                "declined": dict(each.declined),
                "linears": {
                    kind: [linear.strides, linear.pads, linear.error, linear.ridge]
                    for kind, linear in each.linears.items()
                },
            }
        )
    arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _read(path: Path) -> dict[str, Fitted] | None:
    """Return what a file holds; None where there is none, or it cannot be read."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            return {each["name"]: _fitted(each, n, arrays) for n, each in enumerate(told)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _fitted(told: Mapping[str, Any], number: int, arrays: Mapping[str, Array]) -> Fitted:
    linears = {
        Kind(kind): Linear(
            arrays[f"{number}.{kind}.weight"],
            arrays[f"{number}.{kind}.bias"],
            tuple(strides),
            tuple(pads),
            error,
            ridge,
        )
        for kind, (strides, pads, error, ridge) in told["linears"].items()
    }
    declined = {Kind(kind): why for kind, why in told["declined"].items()}
    mean = arrays.get(f"{number}.mean")
    return Fitted(linears, declined, mean, told["axis"])
