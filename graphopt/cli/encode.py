"""Reports and results as JSON: every dataclass becomes an object, every tuple a list."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def to_data(value: Any) -> Any:
    """Return ``value`` in terms of JSON; what JSON cannot say (NaN, infinity) becomes null."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_data(v) for v in value]
    return _to_scalar(value)


def _to_scalar(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    item = getattr(value, "item", None)  # numpy scalars
    return to_data(item()) if callable(item) else str(value)


def to_json(value: Any) -> str:
    """Return ``value`` as an indented JSON document."""
    return json.dumps(to_data(value), indent=2, ensure_ascii=False, allow_nan=False)
