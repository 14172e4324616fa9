"""From times of models to times of kernels, on results whose truth is known."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from graphopt.cost.profiling import Drift, Measurements
from graphopt.cost.profiling.bias import Bias, find_bias
from graphopt.cost.profiling.bundle import Job, jobs
from graphopt.cost.profiling.execution import executed, kernels_of
from graphopt.cost.profiling.join import measurements_of
from graphopt.cost.profiling.results import DeviceResults, KernelEvent, Timed
from graphopt.errors import TargetError
from graphopt.targets import builtin_targets, host_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.cost.kernels import Kernel

JOBS = {job.name: job for job in jobs()}
FACTS = {
    "processor": "invented", "machine": "x86_64", "flags": ["avx2", "avx512_vnni"], "cores": 2,
    "runtime": "onnxruntime 1.31.1", "governor": "", "mhz": None, "max_mhz": None,
}  # fmt: skip
RUN_US, SLOW, ADDED = 8.0, 1.05, 2.5
"""The invented device: cost of a run, and what the profiler makes of a kernel's time."""


def _seen(true_us: float) -> float:
    return SLOW * true_us + ADDED


def _results(*timed: Timed, drift: Drift | None = None, threads: int = 1) -> DeviceResults:
    counts = tuple(sorted({1, threads}))
    return DeviceResults(FACTS, "d", "0.1.0", counts, timed, drift or Drift())


def _events(kernels: Sequence[Kernel], true: Callable[[Kernel], float]) -> tuple[KernelEvent, ...]:
    return tuple(
        KernelEvent(k.node.name, k.node.op, _seen(true(k)), _seen(true(k)) + 0.1) for k in kernels
    )


def _kernels(job: Job, count: int) -> tuple[Kernel, ...]:
    assert not job.is_net
    return kernels_of(job.model.build(count).graph, host_target())  # type: ignore[union-attr,call-arg]


def _chain(name: str, true: Callable[[Kernel], float], at: float = 1.0, slow: float = 1.0) -> Timed:
    """Return what would be measured of a chain whose kernels take ``true`` microseconds."""
    job = JOBS[name]
    times = [RUN_US + sum(true(k) for k in _kernels(job, n)) for n in job.counts]
    times = [t * slow for t in times]
    return Timed(
        name, 1, at, tuple(times), tuple(t * 1.1 for t in times),
        _events(_kernels(job, job.counts[-1]), true),
    )  # fmt: skip


def _net(name: str, true: Callable[[Kernel], float]) -> Timed:
    kernels = kernels_of(JOBS[name].longest().graph, host_target())
    total = RUN_US + sum(true(k) for k in kernels)
    return Timed(name, 1, 1.0, (total,), (total * 1.1,), _events(kernels, true))


def _constant(us: float) -> Callable[[Kernel], float]:
    return lambda _: us


def test_a_chain_of_one_kernel_gives_its_time() -> None:
    found = measurements_of(_results(_chain("Sigmoid/float32/0", _constant(30.0))), host_target())
    (row,) = found.rows
    assert row.min_us == pytest.approx(30.0)
    assert row.median_us == pytest.approx(33.0)
    assert (row.signature.kernel, row.context, row.shared) == ("Sigmoid", "chain", 1.0)
    assert row.source == "Sigmoid/float32/0"
    assert found.base == "x86-avx512-vnni"
    assert found.notes == ()


def test_layout_copies_at_the_ends_cancel() -> None:
    def true(kernel: Kernel) -> float:
        return 500.0 if kernel.kind == "movement" else 40.0

    found = measurements_of(_results(_chain("depthwise/float32/1", true)), host_target())
    (row,) = found.rows
    assert row.signature.kind == "depthwise"
    assert row.min_us == pytest.approx(40.0)


def _by_kind(kernel: Kernel) -> float:
    return {"quantize": 12.0, "elementwise": 90.0}.get(kernel.kind, 30.0)


_NETS = ("ds-cnn", "resnet", "lstm", "unet", "densenet")


def _known_bias() -> list[Timed]:
    """Return networks of different sizes, from which the profiler's bias can be found."""
    sizes = enumerate(_NETS, 1)
    return [_net(f"net/{name}/float32", _constant(7.0 * i)) for i, name in sizes]


def test_a_unit_of_several_kernels_is_divided_as_the_profiler_saw_it() -> None:
    timed = [_chain("quantize/u8s8/0", _by_kind), *_known_bias()]
    found = measurements_of(_results(*timed), host_target())
    rows = {r.signature.kernel: r for r in found.rows if r.context == "chain"}
    assert rows.keys() == {"QuantizeLinear", "DequantizeLinear", "Erf"}
    assert rows["Erf"].min_us == pytest.approx(90.0, rel=1e-3)
    assert rows["QuantizeLinear"].min_us == pytest.approx(12.0, rel=1e-3)
    assert sum(r.shared for r in rows.values()) == pytest.approx(1.0)


def test_the_profilers_bias_is_found_on_whole_models_and_removed() -> None:
    found = measurements_of(_results(*_known_bias()), host_target())
    assert found.bias["scale"] == pytest.approx(1 / SLOW, rel=1e-3)
    assert found.bias["kernel_us"] == pytest.approx(ADDED, rel=1e-2)
    assert found.bias["run_us"] == pytest.approx(RUN_US, rel=1e-2)
    for number, name in enumerate(_NETS, 1):
        rows = [r for r in found.rows if r.context == f"model:{name}/float32"]
        assert [r.min_us for r in rows] == pytest.approx([7.0 * number] * len(rows), rel=1e-2)
    model = next(m for m in found.models if m.family == "resnet")
    assert model.min_us == pytest.approx(RUN_US + 14.0 * len(model.kernels))


def test_bias_of_too_few_models_is_none() -> None:
    assert find_bias([(10.0, 12.0, 3)]) == Bias()


def test_a_corrected_time_is_never_nothing() -> None:
    assert Bias(1.0, 5.0).corrected(2.0) > 0


def test_a_drifting_clock_is_corrected() -> None:
    drift = Drift((0.0, 50.0, 100.0, 150.0, 200.0), (100.0, 100.0, 100.0, 125.0, 125.0))
    late = _chain("Sigmoid/float32/0", _constant(30.0), at=175.0, slow=1.25)
    found = measurements_of(_results(late, drift=drift), host_target())
    assert found.rows[0].min_us == pytest.approx(30.0)
    assert any("drifted" in note for note in found.notes)


def test_one_disturbed_look_at_the_anchor_is_no_drift() -> None:
    drift = Drift((0.0, 50.0, 100.0, 150.0, 200.0), (100.0, 100.0, 140.0, 100.0, 100.0))
    assert drift.spread == 0.0
    assert drift.slowdown(100.0) == 1.0
    assert Drift().slowdown(1.0) == 1.0


def test_models_that_failed_are_noted() -> None:
    failed = Timed("conv/float32/0", 1, 1.0, error="no kernel for it")
    good = _chain("Sigmoid/float32/0", _constant(30.0))
    found = measurements_of(_results(failed, good), host_target())
    assert len(found.rows) == 1
    assert "no kernel for it" in found.notes[0]
    assert "conv/float32/0" in found.notes[0]


def test_a_longer_chain_that_is_faster_was_disturbed() -> None:
    timed = _chain("Sigmoid/float32/0", _constant(30.0))
    wrong = dataclasses.replace(timed, min_us=timed.min_us[::-1])
    found = measurements_of(_results(wrong), host_target())
    assert found.rows == ()
    assert "disturbed" in found.notes[0]


@pytest.mark.parametrize("events", [(), (KernelEvent("k1_0_Sigmoid", "Sigmoid", 1.0, 1.0),)])
def test_a_profile_of_other_kernels_is_not_believed(events: tuple[KernelEvent, ...]) -> None:
    timed = _chain("Sigmoid/float32/0", _constant(30.0))
    found = measurements_of(_results(dataclasses.replace(timed, kernels=events)), host_target())
    assert found.rows == ()
    assert "the device ran no `Sigmoid`" in found.notes[0]


def test_models_of_another_graphopt_are_refused() -> None:
    with pytest.raises(TargetError, match="does not measure") as caught:
        measurements_of(_results(Timed("conv/float16/0", 1, 1.0, (1.0,), (1.0,))), host_target())
    assert caught.value.code == "G504"
    assert "0.1.0" in str(caught.value.hint)


def test_kernels_of_another_machine_are_matched_by_the_names_of_operators() -> None:
    arm = next(t for t in builtin_targets() if t.name == "arm64-dotprod")
    kernels = kernels_of(JOBS["depthwise/s8s8/0"].longest().graph, arm)
    events = [
        KernelEvent(f"{k.nodes[len(k.nodes) // 2].name}_renamed_by_the_runtime", k.name, 5.0, 5.0)
        for k in kernels
    ]
    found = executed(kernels, events)
    assert not isinstance(found, str)
    assert [f.us for f in found] == [5.0] * len(kernels)
    inner = [f for f in found if f.signature.kernel == "QLinearConv"]
    assert [f.unit for f in inner] == list(range(1, JOBS["depthwise/s8s8/0"].counts[-1] + 1))


def test_activations_of_integer_kernels_are_told() -> None:
    for name, wanted in (("Add/u8s8/0", "uint8"), ("depthwise/s8s8/0", "int8")):
        found = measurements_of(_results(_chain(name, _constant(20.0))), host_target())
        assert {r.activations for r in found.rows if r.signature.dtype == "int8"} == {wanted}


def test_measurements_survive_json() -> None:
    timed = [_chain("quantize/u8s8/0", _by_kind), *_known_bias()]
    drift = Drift((0.0, 1.0), (5.0, 5.1))
    found = measurements_of(_results(*timed, drift=drift), host_target())
    again = Measurements.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.digest == found.digest
    assert measurements_of(_results(*timed, drift=drift), host_target()) == found


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    timed = [_chain("Sigmoid/float32/0", _constant(30.0))] * 1
    measurements_of(_results(*timed), host_target(), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
