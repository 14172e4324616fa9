"""What explain prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.prunability import AxisFacts, AxisPart, Origin, TensorFacts

_SHOWN = 4
"""Neighbours that are listed; -v lists all."""
_QUOTED = re.compile(r"`[^`]*`")


def code_page(found: Mapping[str, str]) -> list[str]:
    """Return the page of an error code: what it means, why it comes up, what to do."""
    lines = [heading(f"{found['code']}: {found['title']}")]
    for part in ("cause", "remedy"):
        if found[part]:
            lines += ["", *layout.wrap(found[part])]
    return lines


def node_page(found: Mapping[str, Any]) -> list[str]:
    """Return how a node will be executed, and every reason that was recorded for it."""
    lines = [heading(layout.printable(found["node"]))]
    for operator in found["operators"]:
        reason = f": {operator['reason']}" if operator.get("reason") else ""
        packed = operator["execution"] == "weight-only"
        how = "float on packed weights" if packed else operator["execution"]
        text = f"{operator['op']} runs in {how} as {operator['kernel']}{reason}"
        lines += layout.wrap(text, first="  ", rest="    ")
    for each in found["explanations"]:
        lines += layout.wrap(f"{each['by']}: {each['reason']}", first="  ", rest="    ")
    return lines


def tensor_page(found: TensorFacts, *, verbose: bool = False) -> list[str]:
    """Return what becomes of the axes of a tensor when a model is pruned, and what decides it."""
    kind = found.role if found.dtype == "?" else f"{found.dtype} {found.role}"
    lines = [heading(layout.printable(found.name)), f"  {kind}, {layout.shape(found.shape)}"]
    if found.maker is not None:
        lines += layout.wrap(f"made by `{found.maker}`", first="  ", rest="    ")
    if found.readers:
        text = f"read by {_listed([f'`{r}`' for r in found.readers], verbose)}"
        lines += layout.wrap(text, first="  ", rest="    ")
    for axis in found.axes:
        lines += ["", *_axis_lines(found, axis, verbose)]
    return lines


def _axis_lines(found: TensorFacts, axis: AxisFacts, verbose: bool) -> list[str]:
    head = f"axis {axis.axis}"
    if not isinstance(axis.size, int):
        return [f"{heading(head)}: its size is not known before the model runs, so it stays"]
    if axis.size < 2:
        return [
            f"{heading(head)}: {layout.plural(axis.size, 'index', 'indices')}, nothing to prune"
        ]
    lines = []
    for part in axis.parts:
        whole = len(axis.parts) == 1
        which = f"all {axis.size} indices" if whole else _ranges(part.ranges, verbose)
        lines += [f"{heading(head)}, {which}", *_part_lines(found, axis, part, verbose)]
    return lines


def _part_lines(found: TensorFacts, axis: AxisFacts, part: AxisPart, verbose: bool) -> list[str]:
    if part.group is not None:
        text = f"can go, as {part.unit}s of the group `{part.group}`"
        lines = layout.wrap(text, first="  ", rest="    ")
    else:
        lines = _reasons(found, axis, part.origins, verbose)
    for tie in part.ties:
        names = [f"`{tensor}` axis {position}" for tensor, position in tie.axes]
        text = f"{tie.op} `{tie.node}` couples it with {_listed(names, verbose)}"
        lines += layout.wrap(text, first="  ", rest="    ")
    return lines


def _reasons(
    found: TensorFacts, axis: AxisFacts, origins: Sequence[Origin], verbose: bool
) -> list[str]:
    """Return why indices stay; of reasons that differ in names alone the first."""
    kinds: dict[str, list[Origin]] = {}
    for origin in origins:
        key = origin.reason if verbose else _QUOTED.sub("", origin.reason)
        kinds.setdefault(key, []).append(origin)
    lines = []
    for first, *others in kinds.values():
        more = f"; {layout.plural(len(others), 'more reason')} like it" if others else ""
        text = _because(found, axis, first) + more
        lines += layout.wrap(text, first="  ", rest="    ")
    return lines


def _because(found: TensorFacts, axis: AxisFacts, origin: Origin) -> str:
    if (origin.tensor, origin.axis) == (found.name, axis.axis):
        return f"stays because {origin.reason}"
    other = f"`{origin.tensor}` axis {origin.axis}"
    return f"stays because it goes with {other}, and that stays because {origin.reason}"


def _ranges(ranges: tuple[tuple[int, int], ...], verbose: bool) -> str:
    texts = [str(a) if a == b else f"{a} to {b}" for a, b in ranges]
    noun = "index" if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else "indices"
    return f"{noun} {_listed(texts, verbose)}"


def _listed(texts: list[str], verbose: bool) -> str:
    """Return "a, b and c"; a few of many unless all are wanted."""
    if len(texts) > _SHOWN and not verbose:
        return f"{', '.join(texts[: _SHOWN - 1])} and {len(texts) - _SHOWN + 1} more"
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
