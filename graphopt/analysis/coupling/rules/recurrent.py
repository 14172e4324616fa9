"""LSTM, GRU and RNN: inputs and hidden units, in both directions."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
