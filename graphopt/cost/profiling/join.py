"""From a file of results to measurements: times of models become times of kernels."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.cost.profiling.bias import find_bias
from graphopt.cost.profiling.bundle import jobs
from graphopt.cost.profiling.execution import Executed, executed, kernels_of
from graphopt.cost.profiling.measurements import KernelRow, Measurements, ModelRow
from graphopt.cost.profiling.nets import Net
from graphopt.errors import TargetError
from graphopt.targets.host import base_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from graphopt.cost.kernels import Kernel
    from graphopt.cost.profiling.bias import Bias
    from graphopt.cost.profiling.bundle import Job
    from graphopt.cost.profiling.results import DeviceResults, Timed
    from graphopt.cost.signature import Signature
    from graphopt.targets.base import Target

    Step = Callable[[int, int], None]

_PLAUSIBLE = (0.2, 5.0)
"""Time of a unit over what the profiler says of it; outside, it cannot be divided fairly."""

_STEADY = 0.03
"""Spread of the anchor's times below which nothing is corrected: timing is no better."""


def measurements_of(
    results: DeviceResults, target: Target | None = None, step: Step | None = None
) -> Measurements:
    """Return what a device's results say about its kernels.

    Args:
        results: read from its file.
        target: the device, where more is known of it than its processor's flags.
        step: told how many of how many measurements are done.

    Raises:
        TargetError: G504, the results are of the models of another graphopt, or there are none.
    """
    if target is None:
        from graphopt.targets import builtin_targets

        name = base_for(results.device["flags"], results.device["machine"])
        target = next(t for t in builtin_targets() if t.name == name)
    join = _Join(results, target)
    known = {job.name: job for job in jobs()}
    for number, timed in enumerate(results.timed):
        if timed.job not in known:
            raise TargetError(
                f"the results hold a model `{timed.job}`, which this graphopt does not measure",
                code="G504",
                hint="read them with the graphopt that made the bundle: "
                f"{results.version or 'its version is not told'}",
            )
        join.add(known[timed.job], timed)
        if step is not None:
            step(number + 1, len(results.timed))
    return join.measurements()


@dataclass(frozen=True)
class _Run:
    """One line of the results with the kernels that it is about."""

    job: Job
    timed: Timed
    slowdown: float
    kernels: tuple[Executed, ...]

    @property
    def shortest(self) -> float:
        """Clean time of the whole, at the best of the clock."""
        return self.timed.min_us[0] / self.slowdown

    @property
    def profiled(self) -> float:
        """Sum of the profiled times of all kernels."""
        return sum(kernel.us or 0.0 for kernel in self.kernels) / self.slowdown


@dataclass
class _Join:
    """Measurements in the making."""

    results: DeviceResults
    target: Target
    whole: list[_Run] = field(default_factory=list)
    chains: list[_Run] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    known: dict[str, tuple[Kernel, ...]] = field(default_factory=dict)

    def add(self, job: Job, timed: Timed) -> None:
        """Take one line of the results."""
        if timed.error:
            self.faults[f"could not be run ({timed.error})"].append(timed.job)
            return
        if len(timed.min_us) != max(len(job.counts), 1):
            self.faults["has another number of models"].append(timed.job)
            return
        if timed.threads not in {*self.results.threads, 1}:
            self.faults["was measured with threads that nobody asked for"].append(timed.job)
            return
        if job.name not in self.known:
            self.known[job.name] = kernels_of(job.longest().graph, self.target)
        kernels = executed(self.known[job.name], timed.kernels)
        if isinstance(kernels, str):
            self.faults[kernels].append(timed.job)
            return
        drift = self.results.drift
        slowdown = drift.slowdown(timed.at) if drift.spread > _STEADY else 1.0
        runs = self.whole if job.is_net else self.chains
        runs.append(_Run(job, timed, slowdown, kernels))

    def measurements(self) -> Measurements:
        """Return everything; the profiler's bias is known only now."""
        biases = {n: self._bias(n) for n in {*self.results.threads, 1}}
        rows = [r for run in self.chains for r in self._unit(run, biases[run.timed.threads])]
        inside = [r for run in self.whole for r in _inside(run, biases[run.timed.threads])]
        return Measurements(
            device={**self.results.device, "threads": list(self.results.threads)},
            base=self.base,
            rows=(*rows, *inside),
            models=tuple(_model(run) for run in self.whole),
            drift=self.results.drift,
            bias=dataclasses.asdict(biases[1]),
            notes=tuple(self._notes()),
        )

    def _bias(self, threads: int) -> Bias:
        whole = [run for run in self.whole if run.timed.threads == threads]
        models = [(run.shortest, run.profiled, len(run.kernels)) for run in whole]
        chains = [run for run in self.chains if run.timed.threads == threads]
        return find_bias(models, [pair for run in chains for pair in _single(run)])

    @property
    def base(self) -> str:
        """Name of the built-in target that the device is nearest to."""
        return base_for(self.results.device["flags"], self.results.device["machine"])

    def _unit(self, run: _Run, bias: Bias) -> Iterable[KernelRow]:
        """Divide the difference of two chains among the kernels of one unit."""
        first, last = run.job.counts
        timed, units = run.timed, (last - first) * run.slowdown
        shortest = (timed.min_us[-1] - timed.min_us[0]) / units
        median = (timed.median_us[-1] - timed.median_us[0]) / units
        parts = _mean_times(run.kernels, last, bias)
        profiled = sum(us * count for us, count in parts.values())
        ratio = shortest * run.slowdown / max(profiled, 1e-3)
        if ratio <= 0 or (len(parts) > 1 and not _PLAUSIBLE[0] < ratio < _PLAUSIBLE[1]):
            self.faults["was disturbed while it was timed"].append(run.job.name)
            return
        for signature, (us, _) in parts.items():
            yield KernelRow(
                signature=signature,
                threads=timed.threads,
                min_us=shortest * us / profiled,
                median_us=max(median, shortest) * us / profiled,
                activations=_activations(signature, run.job.name),
                shared=us / profiled,
                source=run.job.name,
            )

    def _notes(self) -> Iterable[str]:
        for fault, names in sorted(self.faults.items()):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{names[0]}{more}: {fault}"
        spread = self.results.drift.spread
        if spread > _STEADY:
            yield f"the clock drifted by {spread:.1%}; times are corrected for it"


def _single(run: _Run) -> Iterator[tuple[float, float]]:
    """Yield the clean and the profiled time of a kernel that is all that a unit consists of."""
    first, last = run.job.counts
    times = [k.us for k in run.kernels if 2 <= k.unit <= last and k.us is not None]
    if len(times) == last - 1 and len(times) == sum(k.unit >= 2 for k in run.kernels):
        clean = (run.timed.min_us[-1] - run.timed.min_us[0]) / (last - first)
        yield clean / run.slowdown, sum(times) / len(times) / run.slowdown


def _mean_times(
    kernels: tuple[Executed, ...], units: int, bias: Bias
) -> dict[Signature, tuple[float, int]]:
    """Return, of each signature in one unit, its mean time and how often a unit has it.

    The unit is the second one: the first reads its input in another layout.
    """
    counts = Counter(k.signature for k in kernels if k.unit == 2 and k.us is not None)
    times: dict[Signature, list[float]] = defaultdict(list)
    for kernel in kernels:
        if 2 <= kernel.unit <= units and kernel.us is not None:
            times[kernel.signature].append(bias.corrected(kernel.us))
    return {s: (sum(times[s]) / len(times[s]), count) for s, count in counts.items()}


def _activations(signature: Signature, name: str) -> str:
    if signature.dtype != "int8":
        return ""
    return "int8" if "s8s8" in name.split("/") else "uint8"


def _inside(run: _Run, bias: Bias) -> Iterable[KernelRow]:
    """Return the kernels of a network with times from the profiler, its bias removed.

    What is left is scaled so that the kernels add up to the clean time of the network.
    """
    shortest = {k: bias.corrected(k.us) for k in run.kernels if k.us is not None}
    total = sum(shortest[k] for k in run.kernels if k in shortest)
    scale = max(run.shortest - bias.run_us, run.shortest / 2) / max(total, 1e-3)
    for kernel in run.kernels:
        if kernel.us is None or kernel.median_us is None:
            continue
        yield KernelRow(
            signature=kernel.signature,
            threads=run.timed.threads,
            min_us=shortest[kernel] * scale,
            median_us=max(bias.corrected(kernel.median_us), shortest[kernel]) * scale,
            context=f"model:{_net(run).name}",
            activations=_activations(kernel.signature, run.job.name),
            shared=shortest[kernel] / total,
            source=_net(run).name,
        )


def _model(run: _Run) -> ModelRow:
    net = _net(run)
    return ModelRow(
        model=net.name,
        family=net.family,
        precision=net.precision,
        threads=run.timed.threads,
        min_us=run.shortest,
        median_us=run.timed.median_us[0] / run.slowdown,
        kernels=tuple(kernel.signature for kernel in run.kernels),
    )


def _net(run: _Run) -> Net:
    assert isinstance(run.job.model, Net)
    return run.job.model
