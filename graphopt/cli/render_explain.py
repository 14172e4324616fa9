"""What explain prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Mapping


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
