"""Where zero is put in signed 8-bit activations, everything else equal; docs/decisions/0005.

``python benchmarks/arm_activations.py [MODEL ...]`` compiles models of ../shared/data for
arm64-dotprod with the preset `integer`, in three ways: every tensor symmetric (zero point 0); only
those that have negative values (the others have zero point -128); every tensor asymmetric.
Operators are counted in the graph that onnxruntime executes with its Arm rules; outputs are
compared with the float original on samples that calibration did not see. Nothing is timed: this is
no Arm.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import graphopt
from graphopt import ir
from graphopt.passes.quantize import insert_qdq
from graphopt.passes.quantize.qdq.parameters import activation_params
from graphopt.pipeline import snr_db
from graphopt.runtime import census, open_session
from graphopt.testing import named_target
from graphopt.types import DType, QuantParams
from rounding_ablation import DEFAULT, LIMIT
from workloads import Workload, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.targets import Target

    Scheme = Callable[[float, float, Any], QuantParams]

TARGET = "arm64-dotprod"


def symmetric(low: float, high: float, rules: Any) -> QuantParams:
    """Put zero at 0 for every tensor, whatever its sign."""
    return QuantParams((max(-low, high, 1e-30) / 127,), (0,), DType.INT8)


def half(low: float, high: float, rules: Any) -> QuantParams:
    """Put zero at 0 for tensors that have negative values only."""
    return activation_params(low, high, dataclasses.replace(rules, symmetric_activations=True))


def asymmetric(low: float, high: float, rules: Any) -> QuantParams:
    """Put zero where the range wants it."""
    return activation_params(low, high, dataclasses.replace(rules, symmetric_activations=False))


SCHEMES: dict[str, Scheme] = {
    "symmetric": symmetric,
    "never negative: zero at -128": half,
    "asymmetric": asymmetric,
}


def compare(workload: Workload, name: str, scheme: Scheme, target: Target) -> str:
    """Return one line of the table."""
    feeds = workload.feeds()[:LIMIT]
    original = ir.load(workload.path)
    reference = open_session(original)
    wanted = [reference.run(feed)[0] for feed in feeds]
    insert_qdq.activation_params = scheme
    try:
        compiled = graphopt.compile(
            original,
            target=TARGET,
            data=workload.calibration(),
            recipe="integer",
            overrides=("calibration.held-out=0", "limits.min-snr-db=-100"),
        )
    finally:
        insert_qdq.activation_params = activation_params
    session = open_session(compiled.graph, target=target)
    found = [session.run(feed)[0] for feed in feeds]
    executed = census(compiled.graph, target)
    integer = sum(e.integer for e in executed.heavy)
    return (
        f"| {workload.name} | {name} | {integer} of {len(executed.heavy)} "
        f"| {executed.executed} | {snr_db(wanted, found):.2f} dB |"
    )


def main() -> None:
    """Print the table."""
    target = named_target(TARGET)
    print("| model | activations | integer | kernels in all | SNR |\n|---|---|---|--:|--:|")
    for workload in workloads(sys.argv[1:] or list(DEFAULT)):
        for name, scheme in SCHEMES.items():
            print(compare(workload, name, scheme, target), flush=True)


if __name__ == "__main__":
    main()
