"""Timing of one model; for Python 3.9 and later, with onnxruntime and numpy alone."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LEAST_RUNS = 30
_FEW_RUNS = 5
"""Of an inference so slow that ``_LEAST_RUNS`` of it would take several times its share."""
_MOST_RUNS = 4000
_PROFILED_RUNS = (12, 60)
_WARM_RUNS = 2
_PATIENCE = 4.0
"""A measurement may take so many times its share of the time before it is cut short."""


def open_model(data: bytes, threads: int, trace: str = "") -> Any:
    """Open a model as graphopt does: all optimisations, no spinning threads."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = trace
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def make_feeds(specs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return seeded random inputs: specs by name, each with dtype, shape, low and high."""
    draw = np.random.RandomState(0)  # the same values with any numpy
    feeds = {}
    for name, spec in sorted(specs.items()):
        shape, low, high = spec["shape"], spec["low"], spec["high"]
        whole = np.issubdtype(np.dtype(spec["dtype"]), np.integer)
        values = draw.randint(low, high, shape) if whole else draw.uniform(low, high, shape)
        feeds[name] = np.asarray(values).astype(spec["dtype"])
    return feeds


def runner(session: Any, feeds: dict[str, Any]) -> Callable[[], None]:
    """Return what runs one inference with inputs bound and outputs left in the runtime."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def time_in_turns(runs: list[Callable[[], None]], seconds: float) -> list[list[float]]:
    """Time inferences in turns, so that all see the same machine; microseconds of every run.

    At least ``_LEAST_RUNS`` each, unless they would take ``_PATIENCE`` times as long as given.
    """
    for run in runs:
        for _ in range(_WARM_RUNS):
            run()
    samples: list[list[float]] = [[] for _ in runs]
    clock, start = time.perf_counter_ns, time.perf_counter()
    for turn in range(_MOST_RUNS):
        spent = time.perf_counter() - start
        if turn >= _LEAST_RUNS and spent > seconds:
            break
        if turn >= _FEW_RUNS and spent > seconds * _PATIENCE:
            break
        for run, times in zip(runs, samples):  # noqa: B905  (Python 3.9)
            begin = clock()
            run()
            times.append((clock() - begin) / 1e3)
    return samples


def profile_model(data: bytes, threads: int, feeds: dict[str, Any], seconds: float) -> list[Any]:
    """Run a model under onnxruntime's profiler.

    Returns:
        One list per kernel, in order of execution: its name, its operator, microseconds (mean of
        its shorter half, so finer than the profiler's own 1 us), median, and runs. Half a
        microsecond is added to both, because the profiler truncates.
    """
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        session = open_model(data, threads, str(Path(folder) / "trace"))
        run = runner(session, feeds)
        start, runs = time.perf_counter(), 0
        while runs < _PROFILED_RUNS[0] or (
            runs < _PROFILED_RUNS[1] and time.perf_counter() - start < seconds
        ):
            run()
            runs += 1
            if runs > _FEW_RUNS and time.perf_counter() - start > seconds * _PATIENCE:
                break
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _kernel_times(events)


def _kernel_times(events: Iterable[dict[str, Any]]) -> list[Any]:
    times: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            name = name[: -len("_kernel_time")]
            times.setdefault(name, []).append(float(event["dur"]))
            operators[name] = str(event.get("args", {}).get("op_name", ""))
    found = []
    for name, durations in times.items():
        warm = sorted(durations[_WARM_RUNS:] or durations)
        quiet = statistics.fmean(warm[: (len(warm) + 1) // 2])
        median = statistics.median(warm)
        found.append([name, operators[name], round(quiet + 0.5, 3), median + 0.5, len(warm)])
    return found
