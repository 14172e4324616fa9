"""What `analyze --pruning` prints: what can go, what hangs on it, and why the rest stays."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.analysis.prunability import BranchFacts, GroupFacts, Span, Stays
    from graphopt.api.prunable import PruningAnalysis

_NAME = 36
_NODES = 30
"""Characters that names of operators may take together before only the first is shown."""
_STAYS = 6
_BESIDE = "lin1, lin3: one product, or convolution of kernel 1 or 3, beside the skip"
_MERGED = "merged1, merged3: the same with the skip in it, so that the addition goes too"
_KINDS = {
    "drop": "drop: a constant, its mean",
    "lin1": _BESIDE,
    "lin3": _BESIDE,
    "merged1": _MERGED,
    "merged3": _MERGED,
}
_QUOTED = re.compile(r"`[^`]*`")


def prunable(result: PruningAnalysis, *, top: int, verbose: bool = False) -> list[str]:
    """Return the groups on which most of the time hangs, the branches, and what stays.

    Args:
        result: the facts.
        top: so many groups and branches are shown.
        verbose: all of them, with every axis that shrinks.
    """
    return [
        *_title(result),
        *_groups(result, None if verbose else top, verbose),
        *_branches(result.branches, None if verbose else top),
        *_stays(result, None if verbose else _STAYS),
    ]


def _title(result: PruningAnalysis) -> list[str]:
    total = layout.quantity(result.milliseconds, "ms")
    lines = layout.wrap(f"{result.model} for {result.target}, simplified", rest="  ")
    free = f"of which {_percent(result.free)} hang on what can be removed"
    if not result.groups:
        free = "and no channels that can be removed"
    text = f"{layout.count(result.weights)} weights, {free}; {total} estimated"
    return lines + layout.wrap(text, rest="  ")


# -- groups ----------------------------------------------------------------------------------


def _groups(result: PruningAnalysis, top: int | None, verbose: bool) -> list[str]:
    if not result.groups:
        return []
    measured = any(group.divergence is not None for group in result.groups)
    count = layout.plural(len(result.groups), "group")
    head = f"{count:<{_NAME}}  {'units':>14}  {'weights':>8}  {'time':>7}"
    lines = ["", heading(f"{head}  {'half':>6}" if measured else head)]
    shown = result.groups[:top]
    for group in shown:
        lines += _group(group, measured, verbose)
    rest = len(result.groups) - len(shown)
    if rest:
        lines.append(f"{layout.plural(rest, 'more group')}: --top N shows more, -v all, with axes")
    lines += layout.wrap(
        "layers that make the units -> layers that read them; weights and time: shares of the "
        "model that hang on the group, of what it reads as of what it makes, so that they add up "
        "to more than 100 %",
        first="  ", rest="  ",
    )  # fmt: skip
    return [*lines, *_legend_of_half(result, measured)]


def _legend_of_half(result: PruningAnalysis, measured: bool) -> list[str]:
    if not measured:
        return []
    text = (
        "half: how far the outputs diverge when about half of the units are left and the layers "
        f"that read them are fitted, on {layout.plural(result.samples, 'sample')} of "
        f"{result.data}; 0.1 costs a classifier about one point"
    )
    return layout.wrap(text, first="  ", rest="  ")


def _group(group: GroupFacts, measured: bool, verbose: bool) -> list[str]:
    units = layout.plural(group.units, group.unit)
    figures = f"{units:>14}  {_percent(group.weights):>8}  {_percent(group.time):>7}"
    if measured:
        figures += f"  {_divergence(group.divergence):>6}"
    lines = _row(group.name, figures)
    lines += _path(group, verbose)
    for remark in _remarks(group):
        lines += layout.wrap(remark, first="    ", rest="      ")
    if verbose:
        for span in group.spans:
            lines += layout.wrap(_span(span), first="      ", rest="        ")
    return lines


def _row(name: str, figures: str) -> list[str]:
    label = layout.printable(name)
    if len(label) <= _NAME:
        return [f"{label:<{_NAME}}  {figures}"]
    return [label, f"{'':<{_NAME}}  {figures}"]


def _path(group: GroupFacts, verbose: bool) -> list[str]:
    """Return "makers -> readers" in a line, or each of them in their own."""
    makers = _some(group.makers, verbose) or "no layer"
    readers = f"-> {_some(group.readers, verbose)}"
    whole = layout.printable(f"    {makers} {readers}")
    if len(whole) <= layout.WIDTH:
        return [whole]
    lines = layout.wrap(makers, first="    ", rest="      ")
    return lines + layout.wrap(readers, first="      ", rest="         ")


def _some(names: Sequence[str], verbose: bool) -> str:
    """Return one name and how many more; all of them where few fit, or are wanted."""
    together = ", ".join(names)
    if verbose or len(together) <= _NODES:
        return together
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _remarks(group: GroupFacts) -> list[str]:
    remarks = []
    if group.width > 1:
        what = "columns" if group.unit == "head" else "channels"
        remarks.append(f"a {group.unit} is {group.width} {what} of the narrowest layer")
    if group.step > 1:
        remarks.append(f"at least {group.step} go at once, one of each part")
    for reason, count in _alike(group.inexact):
        more = f", and {count} more" if count else ""
        remarks.append(f"approximate: {reason}{more}")
    return remarks


def _alike(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Return one reason of each kind, with how many more differ from it in names alone."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(_QUOTED.sub("", reason), []).append(reason)
    return [(found[0], len(found) - 1) for found in kinds.values()]


def _span(span: Span) -> str:
    each = "" if span.per_unit == 1 else f", {span.per_unit} a unit"
    part = "" if span.covered == span.size else f" {span.covered} of"
    kind = " (weight)" if span.stored else ""
    return f"`{span.tensor}`{kind} axis {span.axis}:{part} {span.size} indices{each}"


# -- branches --------------------------------------------------------------------------------


def _branches(branches: Sequence[BranchFacts], top: int | None) -> list[str]:
    if not branches:
        return []
    count = layout.plural(len(branches), "residual branch", "residual branches")
    head = f"{count:<{_NAME}}  {'operators':>14}  {'weights':>8}  {'time':>7}"
    lines = ["", heading(head)]
    shown = sorted(branches, key=lambda b: -b.time)[:top]
    fates: dict[str, list[BranchFacts]] = {}
    for branch in shown:
        fates.setdefault(_fate(branch), []).append(branch)
    for fate, alike in fates.items():
        for branch in alike:
            lines += _row(branch.name, _branch_figures(branch))
        lines += layout.wrap(fate, first="    ", rest="      ")
    rest = len(branches) - len(shown)
    if rest:
        lines.append(f"{layout.plural(rest, 'more branch', 'more branches')}: --top N shows more")
    return [*lines, *_legend_of_kinds(shown)]


def _branch_figures(branch: BranchFacts) -> str:
    shares = f"{_percent(branch.weights):>8}  {_percent(branch.time):>7}"
    return f"{len(branch.operators):>14}  {shares}"


def _fate(branch: BranchFacts) -> str:
    if not branch.kinds:
        return f"stays: {branch.reason}"
    return f"^ can become {', '.join(branch.kinds)}"


def _legend_of_kinds(branches: Sequence[BranchFacts]) -> list[str]:
    kinds = {kind for branch in branches for kind in branch.kinds}
    texts = {text for kind, text in _KINDS.items() if kind in kinds}
    ordered = [text for text in dict.fromkeys(_KINDS.values()) if text in texts]
    return [line for text in ordered for line in layout.wrap(text, first="  ", rest="    ")]


# -- what stays ------------------------------------------------------------------------------


def _stays(result: PruningAnalysis, most: int | None) -> list[str]:
    if not result.stays:
        return []
    share = sum(each.share for each in result.stays)
    title = f"what stays: channels that {_percent(share)} of the weights make"
    lines = ["", heading(title)]
    shown = result.stays[:most]
    for each in shown:
        lines += layout.wrap(_reason(each), first=f"  {_percent(each.share):>7}  ", rest=" " * 11)
    rest = len(result.stays) - len(shown)
    if rest:
        lines.append(f"{layout.plural(rest, 'more reason')}: -v shows all")
    lines += layout.wrap(
        "`graphopt explain TENSOR --model MODEL` shows what an axis is coupled with", first="  ",
        rest="  ",
    )  # fmt: skip
    return lines


def _reason(each: Stays) -> str:
    alike = f" and {layout.plural(each.alike, 'reason')} like it" if each.alike else ""
    return f"{each.reason}{alike}: {_some(each.tensors, verbose=False)}"


# -- figures ---------------------------------------------------------------------------------


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.0f} %" if percent >= 99.95 or percent == 0 else f"{percent:.1f} %"


def _divergence(value: float | None) -> str:
    if value is None:
        return "-"
    return "lost" if not math.isfinite(value) else f"{value:.3f}"
