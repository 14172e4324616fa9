"""Scale and zero point of every tensor that is quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.passes.quantize.qdq.lower import fixed_params, scale_factor
from graphopt.passes.quantize.qdq.operands import activations
from graphopt.passes.quantize.qdq.parameters import activation_params
from graphopt.types import QuantParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.calibration.base import RangeStatistics
    from graphopt.ir import Value
    from graphopt.passes.quantize.qdq.placement import Placement, Unit
    from graphopt.targets.base import QuantizationRules


def tensor_params(
    placement: Placement,
    ranges: Mapping[str, RangeStatistics],
    rules: QuantizationRules,
    given: Mapping[Value, QuantParams] | None = None,
) -> dict[Value, QuantParams]:
    """Return the parameters of every quantized tensor.

    Data that is only moved keeps those of its source, times the factor where it is scaled; what
    is written as another operator has those which that operator gives it.
    """
    wanted: dict[Value, None] = {}
    for unit in placement.units.values():
        wanted |= dict.fromkeys(activations(unit.node))
        if placement.needs_integer_output(unit):
            wanted |= dict.fromkeys(unit.outputs)
    sources = placement.by_output()
    return {value: _params(value, sources, ranges, rules, given or {}) for value in wanted}


def _params(
    value: Value,
    sources: Mapping[Value, Unit],
    ranges: Mapping[str, RangeStatistics],
    rules: QuantizationRules,
    given: Mapping[Value, QuantParams],
) -> QuantParams:
    factor = 1.0
    unit = sources.get(value)
    while unit is not None and unit.rule.role == "passthrough":
        factor *= scale_factor(unit.node) or 1.0
        value = activations(unit.node)[0]
        unit = sources.get(value)
    fixed = fixed_params(unit.node, rules) if unit is not None else None
    found = fixed or given.get(value)
    if found is None:
        found = activation_params(ranges[value.name].low, ranges[value.name].high, rules)
    if factor == 1.0:
        return found
    return QuantParams((found.scale[0] * factor,), found.zero_point, found.dtype)
