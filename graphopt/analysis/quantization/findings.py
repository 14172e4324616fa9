"""What can be wrong with a quantized model: one record per finding, with a stable code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Node


@dataclass(frozen=True)
class Finding:
    """One thing that makes a quantized model slow, wrong, or impossible to run.

    Args:
        code: D1xx an operator runs in float although quantized; D2xx the runtime does something
            else than the file says; D3xx the model does not run; D4xx quantized in a way that is
            slow by itself.
        node: where: name of the node, or of its first output.
        op: its operator.
        what: the fact.
        why: the rule of the runtime behind it.
        remedy: what to do about it.
    """

    code: str
    node: str
    op: str
    what: str
    why: str
    remedy: str


FLOAT_CODES = "D1"
"""Beginning of the codes of operators that run in float although quantized."""


def finding(code: str, node: Node, what: str, why: str, remedy: str) -> Finding:
    """Return a finding about ``node``."""
    return Finding(code, node.label, node.op, what, why, remedy)
