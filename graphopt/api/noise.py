"""How much noise each integer layer of a compiled model makes, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.calibration.dataset import take
from graphopt.errors import GraphOptError
from graphopt.report import SensitivityRecord

if TYPE_CHECKING:
    from graphopt.api.division import Samples
    from graphopt.ir import Graph
    from graphopt.targets.base import Target

SAMPLES = 16
"""Calibration samples that noise is measured on."""


def noise_of(
    reference: Graph | None, result: Graph, samples: Samples | None, target: Target
) -> SensitivityRecord | None:
    """Return the noise of the integer layers of ``result``; None where it has none, or cannot run.

    Args:
        reference: the float graph that was quantized; tensors that mean the same share names. None
            where nobody asked.
        result: the same graph, with integers written as Q and DQ.
        samples: 16 of those for calibration are used; None without data.
        target: says how products are added.
    """
    if reference is None or samples is None:
        return None
    from graphopt.pipeline.sensitivity import Sensitivity

    found = Sensitivity(reference, result, saturates=target.quantization.saturates)
    if not found.layers:
        return None
    try:
        found.measure(take(samples.calibration, SAMPLES))
    except GraphOptError:
        # What is only told must not stop what was asked for.
        return None
    return SensitivityRecord(found.samples, found.results(), found.outputs())
