"""What estimate prints, from results made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from graphopt.api.estimates import Estimates, MemoryFacts, TargetEstimate, WhatIf
from graphopt.cost.base import Estimate, KernelCost
from graphopt.cost.planning import Fit
from graphopt.types import Figure

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from pathlib import Path


def estimate(ms: float, kind: str = "conv", energy: Figure | None = None) -> Estimate:
    kernels = tuple(
        KernelCost((f"Conv_{i}", f"Relu_{i}"), "QLinearConv", kind, "int8", 10, 10, float(i + 1))
        for i in range(12)
    )
    latency = Figure(ms, ms * 0.76, ms * 1.24, "estimated", "roofline of arm64-neon")
    return Estimate(latency, 1_600_000, "Conv_3", 4_000_000, 4_100_000, energy, 10**9, kernels)


def memory(limit: int | None) -> MemoryFacts:
    crowded = (("Conv_3", 1_600_000),) if limit else ()
    fit = Fit(1_600_000, limit, 4_100_000, None, crowded, (), hopeless=bool(limit))
    return MemoryFacts(1_600_000, 1_600_000, 2_000_000, True, True, fit)


@pytest.fixture
def results(api: types.ModuleType) -> types.ModuleType:
    """Put an API in place that answers as a real one would."""
    energy = Figure(3.2, 2.0, 5.0, "estimated", "active power")
    faster = WhatIf("int8", estimate(6.45), 2.0)

    def ask(model: Path, names: list[str], **given: Any) -> Estimates:
        api.calls.append({"model": model, "names": names, **given})
        rows = tuple(
            TargetEstimate(
                str(model), name, estimate(12.9, energy=energy), memory(given["max_ram"]), (faster,)
            )
            for name in names
        )
        other = tuple(
            TargetEstimate("b.onnx", n, estimate(4.3, "gemm"), memory(None)) for n in names
        )
        return Estimates(rows, other if given["compare"] else ())

    api.estimate_targets = ask  # type: ignore[attr-defined]
    api.has_host_profile = lambda: True  # type: ignore[attr-defined]
    return api


def test_one_target_in_detail(run: Callable, results: Any) -> None:
    done = run("estimate", "m.onnx", "--target", "arm")
    lines = done.out.splitlines()
    assert lines[:13] == [
        "One inference on arm, batch 1",
        "  latency               12.9 ms  estimated, 9.80 to 16.0 ms; roofline of",
        "                                 arm64-neon",
        "  peak activations      1.5 MiB  at `Conv_3`",
        "  planned               1.5 MiB  no order and no placement need less; the file's",
        "                                 order needs 1.9 MiB",
        "  weights               3.8 MiB",
        "  file                  3.9 MiB",
        "  energy                3.20 mJ  estimated, 2.00 to 5.00 mJ; active power",
        "  multiply-accumulates   1.00 G",
        "",
        "  what if   speed  latency  peak  file",
        "  int8     2.00 x  6.45 ms  same  same  every operator in int8 that can be",
    ]
    assert lines[15] == "  12.0   15 %  QLinearConv  int8  Conv_11 and 1 more"
    assert lines[-1] == "  2 more kernels, 4 %; -v lists all"
    assert results.calls[-1]["names"] == ["arm"]
    assert len(run("estimate", "m.onnx", "-v").out.splitlines()) == len(lines) + 1
    answer = run("estimate", "m.onnx", "--format", "json").json
    assert answer["rows"][0]["estimate"]["latency_ms"]["value"] == 12.9


def test_a_line_for_each_of_several_targets(run: Callable, results: Any) -> None:
    done = run("estimate", "m.onnx", "--target", "arm, host", "--no-what-if")
    lines = done.out.splitlines()
    assert lines[:4] == [
        "One inference of m.onnx, batch 1",
        "  target  latency    90 % interval      RAM   energy    int8  pruned",
        "  arm     12.9 ms  9.80 to 16.0 ms  1.5 MiB  3.20 mJ  2.00 x       -",
        "  host    12.9 ms  9.80 to 16.0 ms  1.5 MiB  3.20 mJ  2.00 x       -",
    ]
    assert lines[-1] == "  host  roofline of arm64-neon"
    assert max(map(len, lines)) <= 80
    assert (results.calls[-1]["names"], results.calls[-1]["what_if"]) == (["arm", "host"], False)


@pytest.mark.usefixtures("results")
def test_another_model_beside_it(run: Callable) -> None:
    done = run("estimate", "m.onnx", "--compare", "b.onnx")
    tail = done.out.splitlines()[-6:]
    assert tail == [
        "  target   m.onnx   b.onnx   speed  file",
        "  host    12.9 ms  4.30 ms  3.00 x  same",
        "",
        "  class        us    us  change",
        "  int8 conv  78.0     0  -100 %",
        "  int8 gemm     0  78.0     new",
    ]


@pytest.mark.usefixtures("results")
def test_no_target_at_all(run: Callable) -> None:
    done = run("estimate", "m.onnx", "--target", " , ")
    assert done.code == 2
    assert "name a target" in done.err


@pytest.mark.usefixtures("results")
def test_what_does_not_fit_is_said_and_is_the_exit_status(run: Callable) -> None:
    done = run("estimate", "m.onnx", "--target", "arm", "--max-ram", "1MiB")
    assert done.code == 1
    assert done.out.splitlines()[10:14] == [
        "",
        "  does not fit into 1.0 MiB of RAM: 1.5 MiB",
        "    1.5 MiB at `Conv_3`",
        "    that operator alone needs more: no order of operators can help",
    ]
    assert run("estimate", "m.onnx", "--max-ram", "2MB").code == 0


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("300000", 300000), ("256KiB", 1 << 18), ("1.5MB", 1_500_000), ("2 GiB", 2 << 30)],
)
def test_sizes(run: Callable, results: Any, text: str, nbytes: int) -> None:
    run("estimate", "m.onnx", "--max-ram", text)
    assert results.calls[-1]["max_ram"] == nbytes


@pytest.mark.usefixtures("results")
def test_what_is_no_size(run: Callable) -> None:
    done = run("estimate", "m.onnx", "--max-flash", "lots")
    assert done.code == 2
    assert "is no size" in done.err
