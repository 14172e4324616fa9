"""What `graphopt targets` prints: the list by family, and every figure of one with its source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.targets.base import Target

_FAMILIES = (
    "This machine",
    "x86-64",
    "64-bit Arm",
    "Microcontrollers",
    "Browser",
    "NVIDIA GPUs",
    "NPUs",
)
"""In the order in which they are listed; others follow by name."""

_EVIDENCE = {
    "measured": "measured",
    "published": "published",
    "unverified": "published, but not looked up",
    "assumed": "assumed or a rule",
}


def target_list(targets: Sequence[Target], width: int | None) -> list[str]:
    """Return one line per target, by family; other names are in parentheses."""
    families: dict[str, list[Target]] = {}
    for target in targets:
        families.setdefault(_family(target), []).append(target)
    known = {name: index for index, name in enumerate(_FAMILIES)}
    order = sorted(families, key=lambda name: (known.get(name, len(known)), name))
    longest = max((len(t.name) for t in targets), default=0)
    lines: list[str] = []
    for family in order:
        head = family
        if all(t.prices_only for t in families[family]):
            head += ": for estimates; what is compiled for them was never run"
        rows = [(t.name.ljust(longest), _line(t)) for t in families[family]]
        lines += ["", heading(head), *layout.columns(rows, width=width)]
    return lines[1:]


def _family(target: Target) -> str:
    return "This machine" if target.is_host else target.family


def _line(target: Target) -> str:
    return target.summary + (f" ({', '.join(target.aliases)})" if target.aliases else "")


def target_page(target: Target) -> list[str]:
    """Return every fact of a target, and where the figures are from."""
    lines = [heading(target.name), *layout.wrap(target.summary)]
    plain = {
        "also called": ", ".join(target.aliases),
        "family": target.family,
        "runtime": target.runtime,
        "provider": target.provider or "onnxruntime does not run there",
        "instructions": ", ".join(target.isa),
    }
    lines += layout.columns([(k, v) for k, v in plain.items() if v])
    for part in ("quantization", "compute", "memory", "energy"):
        value = getattr(target, part)
        if value is not None:
            lines += ["", part, *layout.columns(_facts(value))]
    lines += ["", *layout.wrap(_promise(target))]
    if target.sources:
        lines += ["", "figures that are", *layout.columns(_by_evidence(target))]
        lines += ["", "sources", *layout.columns(sorted(target.sources.items()))]
    return lines


def _promise(target: Target) -> str:
    """Say how far the estimates can be trusted."""
    said = f"latency estimates are within +-{100 * target.uncertainty:.0f} %"
    if target.energy is None:
        said += "; nothing is known about energy"
    elif target.energy.measured:
        said += "; energy is estimated in joules, from measured power"
    else:
        said += "; energy is only compared between two models, as a ratio"
    if target.prices_only:
        said += "; what is compiled for it was never run: use it for estimates"
    return said


def _by_evidence(target: Target) -> list[tuple[str, str]]:
    """Return the fields by what their sources amount to."""
    from graphopt.targets.base import evidence

    found: dict[str, list[str]] = {}
    for key, text in sorted(target.sources.items()):
        found.setdefault(evidence(text), []).append(key)
    return [(text, ", ".join(found[key])) for key, text in _EVIDENCE.items() if key in found]


def _facts(value: Any) -> list[tuple[str, str]]:
    """Return the fields of a dataclass; a table within it has one row per key."""
    rows: list[tuple[str, str]] = []
    for field in dataclasses.fields(value):
        name, content = field.name.replace("_", " "), getattr(value, field.name)
        if isinstance(content, dict):
            rows += [(f"{name}, {key}", _plain(v)) for key, v in content.items()]
        elif content not in (None, ()):
            is_size = field.name.endswith("_bytes")
            rows.append(
                (name.removesuffix(" bytes"), _sizes(content) if is_size else _plain(content))
            )
    return rows


def _sizes(content: int | tuple[int, ...]) -> str:
    sizes = content if isinstance(content, tuple) else (content,)
    return ", ".join(layout.size(nbytes) for nbytes in sizes)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
