"""Fusion tables: what a runtime executes in integer, operator by operator."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from graphopt.errors import TargetError

Role = Literal["heavy", "elementwise", "passthrough", "absorbed"]


@dataclass(frozen=True)
class FusionRule:
    """How a runtime treats one operator between Q and DQ.

    Args:
        op: operator of the default domain.
        role: heavy, elementwise, passthrough or absorbed; see the table files.
        kernel: what executes it in integer.
        min_opset: older versions stay float.
        attributes: values that attributes must have.
    """

    op: str
    role: Role
    kernel: str
    min_opset: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FusionTable:
    """All rules of one runtime.

    Args:
        name: of the table.
        rules: by operator.
        activations: element types that its integer kernels compute with.
    """

    name: str
    rules: dict[str, FusionRule]
    activations: tuple[str, ...] = ("uint8", "int8")

    def rule(self, op: str, domain: str = "") -> FusionRule | None:
        """Return the rule of an operator, or None where it always runs in float."""
        return self.rules.get(op) if domain == "" else None


@functools.cache
def fusion_table(runtime: str) -> FusionTable:
    """Return the table that serves ``runtime``: a shipped one by name, or a file of one's own.

    Args:
        runtime: the ``runtime`` of a target; a path where it ends in ``.toml``.

    Raises:
        TargetError: G502, there is no such table, or the file is not one.
    """
    if runtime.endswith(".toml"):
        return _read(Path(runtime))
    tables = _tables()
    if runtime not in tables:
        raise TargetError(
            f"no fusion table for the runtime `{runtime}`",
            code="G502",
            hint=f"known: {', '.join(sorted(tables))}",
        )
    return tables[runtime]


@functools.cache
def _tables() -> dict[str, FusionTable]:
    found: dict[str, FusionTable] = {}
    for file in (files("graphopt.targets") / "fusion_tables").iterdir():
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        found |= dict.fromkeys(data["serves"], _table(data))
    return found


def _read(file: Path) -> FusionTable:
    try:
        return _table(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(
            f"not a fusion table: {type(error).__name__}: {error}",
            code="G502",
            where=str(file),
            hint="`name`, `activations`, and `[operators.OP]` with `role` and `kernel` each",
        ) from error


def _table(data: dict[str, Any]) -> FusionTable:
    rules = {op: FusionRule(op, **fields) for op, fields in data["operators"].items()}
    return FusionTable(data["name"], rules, tuple(data["activations"]))
