"""What can be removed from a model, what stays and why: facts for a person."""

from __future__ import annotations

from graphopt.analysis.prunability.axes import explain_value
from graphopt.analysis.prunability.facts import (
    AxisFacts,
    AxisPart,
    BranchFacts,
    GroupFacts,
    Origin,
    Span,
    Stays,
    TensorFacts,
    Tie,
)
from graphopt.analysis.prunability.groups import Costs, describe_group
from graphopt.analysis.prunability.staying import what_stays
from graphopt.analysis.prunability.weights import reached, stored_weights

__all__ = [
    "AxisFacts",
    "AxisPart",
    "BranchFacts",
    "Costs",
    "GroupFacts",
    "Origin",
    "Span",
    "Stays",
    "TensorFacts",
    "Tie",
    "describe_group",
    "explain_value",
    "reached",
    "stored_weights",
    "what_stays",
]
