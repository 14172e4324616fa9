"""What has to be alike where a task is done for its result to be the same bytes."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version

from graphopt.version import VERSION

_DISTRIBUTIONS = ("onnxruntime", "onnx", "numpy")

Likeness = tuple[tuple[str, str], ...]


@functools.cache
def likeness() -> Likeness:
    """Return versions and kind of processor of this process, as (name, value) pairs."""
    return (
        ("graphopt", VERSION),
        *((name, _version(name)) for name in _DISTRIBUTIONS),
        ("processor", platform.machine().lower()),
    )


def differences(ours: Likeness, theirs: Likeness) -> str:
    """Say what differs, as "graphopt 0.1.0 here and 0.2.0 there"; empty when nothing does."""
    here, there = dict(ours), dict(theirs)
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    unknown = "unknown"
    return ", ".join(
        f"{name} {here.get(name, unknown)} here and {there.get(name, unknown)} there"
        for name in names
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # onnxruntime under another name: -openvino, -gpu, ...
        return "of another distribution"
