"""How much accuracy may be lost, as the user states it: ``1``, ``1%``, ``0.3``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from graphopt.errors import RecipeError

POINTS = "points"
"""Unit of metrics that are shares in percent."""
_SPELLING = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)")
_EXPECTED = "a number of 0 or more in the unit of the metric, or percent such as `1%`"


@dataclass(frozen=True)
class Drop:
    """The largest loss that is allowed.

    Args:
        amount: 0 or more.
        percent: whether it was stated in percent.
    """

    amount: float
    percent: bool = False

    def allowed(self, unit: str, value: float, metric: str = "") -> float:
        """Return the largest loss in the unit of a metric.

        A metric in points loses points, in percent or not. Of any other, percent are of the value
        that the original has, and a bare number is in the unit of the metric.

        Args:
            unit: of the metric.
            value: what the original reaches.
            metric: its name, for messages.

        Raises:
            RecipeError: G103, percent of a value that is 0.
        """
        if unit == POINTS or not self.percent:
            return self.amount
        if value == 0.0:
            raise RecipeError(
                f"the drop is stated in percent, and the original's `{metric}` is 0",
                where="limits.max-drop",
                hint=f"state it in {unit}, without a percent sign" if unit else "state a number",
            )
        return self.amount / 100.0 * abs(value)

    @property
    def spelling(self) -> float | str:
        """As a recipe spells it: a number, or a string with a percent sign."""
        return f"{_shortest(self.amount)}%" if self.percent else self.amount


def parse_drop(value: float | str) -> Drop:
    """Return what a user stated: a number of 0 or more, or one with a percent sign.

    Raises:
        RecipeError: G103, it is neither.
    """
    found = _read(value)
    if found is None:
        raise RecipeError(
            f"`limits.max-drop` must be {_EXPECTED}, got `{value}`",
            where="limits.max-drop",
            hint="for top-1 and other metrics in points both mean percentage points",
        )
    return found


def drop_fault(value: object) -> str | None:
    """Return what a value must be to be a largest drop; None where it is one."""
    good = isinstance(value, str | int | float) and _read(value) is not None
    return None if good else _EXPECTED


def _read(value: float | str) -> Drop | None:
    if isinstance(value, str):
        found = _SPELLING.fullmatch(value.strip())
        amount, percent = (float(found[1]), found[2] == "%") if found else (math.nan, False)
    else:
        amount, percent = float(value), False
    return Drop(amount, percent) if math.isfinite(amount) and amount >= 0 else None


def _shortest(amount: float) -> str:
    return str(int(amount)) if amount.is_integer() and amount < 1e15 else repr(amount)
