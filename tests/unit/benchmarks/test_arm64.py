"""Compiled models on an emulated arm64 machine: they compute there what they compute here.

The machine is made by benchmarks/arm64_machine.py in the folder that GRAPHOPT_ARM64 names, and is
kept there. Without that variable it is made only where nothing may be skipped.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from graphopt import ir
from graphopt.cost.executed import kernels_of_optimized
from tests.conftest import missing

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MODELS = ("mnist_cntk", "kws_dscnn_bn", "superres_espcn_x3_y")
PURE = ("mnist_cntk", "superres_espcn_x3_y")
"""Those that have no float operator left."""


@pytest.fixture(scope="module")
def models() -> Any:
    """Return the benchmark's module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("arm64_models")


@pytest.fixture(scope="module")
def machine(models: Any) -> Any:
    """Return the emulated machine, made on first use."""
    if not os.environ.get("GRAPHOPT_ARM64") and os.environ.get("GRAPHOPT_NO_SKIP") != "1":
        missing("set GRAPHOPT_ARM64 to a folder for an emulated arm64 machine (0.3 GB)")
    if not models.SHARED.is_dir():
        missing("../shared/data is not beside the repository")
    try:
        return models.set_up(models.default_machine())
    except models.MachineError as error:
        return missing(f"no emulated arm64 machine: {error}")


@pytest.fixture(scope="module")
def rows(models: Any, machine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is found of each model, compiled to integers for `arm`."""
    scratch = tmp_path_factory.mktemp("arm64")
    cases = [
        models.compile_case(workload, "arm64-dotprod", "integer", scratch)
        for workload in models.workloads(list(MODELS))
    ]
    return {row["model"]: row for row in models.check(machine, cases, scratch)}


@pytest.mark.parametrize("name", MODELS)
def test_compiled_models_compute_the_same_on_arm64(rows: dict[str, Any], name: str) -> None:
    row = rows[name]
    assert row["holds"], row
    assert row["integer_kernels"] > 0
    assert row["same_class"]


@pytest.mark.parametrize("name", PURE)
def test_integer_models_are_bit_identical_on_arm64(rows: dict[str, Any], name: str) -> None:
    assert rows[name]["pure_integer"], rows[name]["float_kernels"]
    assert rows[name]["identical"]


@pytest.mark.parametrize("name", MODELS)
def test_fusion_tables_predict_what_arm64_executes(rows: dict[str, Any], name: str) -> None:
    found = rows[name]["tables"]
    assert found["same"] == found["executed"] == found["predicted"], found


def test_a_difference_is_found(models: Any) -> None:
    import numpy as np

    here = [[np.array([0.0, 2.0, 1.0], np.float32)]]
    there = [[np.array([0.0, 2.0, 1.5], np.float32)]]
    found = models.difference(here, there)
    assert not found["identical"]
    assert found["relative"] == pytest.approx(0.25)
    assert found["same_class"]
    assert models.difference(here, here)["identical"]


def test_float_arithmetic_between_integers_is_seen(models: Any) -> None:
    graph = ir.parse(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[1, 4] x) => (float[1, 4] y) '
        "<float s = {0.1}, uint8 z = {0}> { q = QuantizeLinear(x, s, z) "
        "d = DequantizeLinear(q, s, z) y = Softmax(d) }"
    )
    ir.infer_shapes(graph)
    assert models.float_kernels(kernels_of_optimized(graph)) == {"Softmax": 1}
