"""The precisions that kernels may have, and the passes that give them."""

from __future__ import annotations

import dataclasses
import glob
from typing import TYPE_CHECKING, Any, Final

from graphopt.planner.plan import FLOAT, Plan, is_open

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.passes.base import Pass

FP32: Final = "fp32"
FP16: Final = "fp16"
INT8: Final = "int8"
DYNAMIC: Final = "int8-dynamic"
W4: Final = "w4"

_GIVEN_BY: dict[str, str] = {
    "insert-qdq": INT8,
    "quantize-matmuls": DYNAMIC,
    "quantize-weights": W4,
}
"""Which pass makes a precision. None makes fp16: onnxruntime's CPU kernels compute in float32."""

REPRESENTATION: dict[str, str] = {FP16: "float16", INT8: "int8"}
"""What a kernel reads and writes where that is not float32."""


def settled(steps: Sequence[Pass]) -> tuple[Pass, ...]:
    """Return the passes with what is open as integer as it can be; equalizing stays off."""
    plan = Plan.closed(steps)
    if any(s.name == "insert-qdq" and is_open(s) for s in steps):
        plan = plan.placed("integer")
        if any(s.name == "align-channels" and is_open(s) for s in steps):
            plan = plan.having("align-channels", mode="on")
    if any(s.name == "quantize-matmuls" and is_open(s) for s in steps):
        plan = plan.having("quantize-matmuls", mode="by-rows")
    return plan.steps


def gives_precision(step: Pass) -> bool:
    """Whether a pass gives kernels another precision than fp32."""
    return step.name in _GIVEN_BY


def labels_of(steps: Sequence[Pass]) -> tuple[str, ...]:
    """Return the precisions that these passes can give, fp32 first."""
    return (FP32, *(_GIVEN_BY[s.name] for s in steps if s.name in _GIVEN_BY and not _is_off(s)))


def giving_only(steps: Sequence[Pass], label: str) -> tuple[Pass, ...]:
    """Return the passes such that every kernel that can gets this precision, and none another."""
    return tuple(_turned_off(s) if _GIVEN_BY.get(s.name, label) != label else s for s in steps)


def applied(
    steps: Sequence[Pass], chosen: Mapping[str, str], possible: Mapping[str, frozenset[str]]
) -> tuple[Pass, ...]:
    """Return the passes with the options that give each kernel its precision.

    Args:
        steps: settled, as ``settled`` returns them.
        chosen: precision by the kernel's name.
        possible: by precision, the names of the kernels that can have it.
    """
    made = []
    for step in steps:
        label = _GIVEN_BY.get(step.name)
        if label is None or _is_off(step):
            made.append(step)
            continue
        able = possible.get(label, frozenset())
        given = {name for name in able if chosen[name] == label}
        made.append(_excluding(step, able - given) if given else _turned_off(step))
    return tuple(made)


def overrides_of(before: Sequence[Pass], after: Sequence[Pass]) -> tuple[str, ...]:
    """Return the options that differ, as "pass.option=value" with values as in TOML."""
    found = []
    for one, other in zip(before, after, strict=True):
        for option in dataclasses.fields(other):  # type: ignore[arg-type]
            value = getattr(other, option.name)
            if value != getattr(one, option.name):
                key = option.name.replace("_", "-")
                found.append(f"{other.name}.{key}={_toml(value)}")
    return tuple(found)


def _is_off(step: Pass) -> bool:
    return getattr(step, "placement", None) == FLOAT or getattr(step, "mode", None) == "off"


def _turned_off(step: Pass) -> Pass:
    if hasattr(step, "placement"):
        return _changed(step, placement=FLOAT)
    if hasattr(step, "mode"):
        return _changed(step, mode="off")
    return _changed(step, exclude=("*",))


def _excluding(step: Pass, names: frozenset[str] | set[str]) -> Pass:
    kept: tuple[str, ...] = tuple(step.exclude)  # type: ignore[attr-defined]
    added = (glob.escape(name) for name in sorted(names))
    return _changed(step, exclude=(*kept, *(p for p in added if p not in kept)))


def _changed(step: Pass, **options: Any) -> Pass:
    changed: Pass = dataclasses.replace(step, **options)  # type: ignore[type-var]
    return changed


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)
