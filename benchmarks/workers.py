"""How much faster two workers are than one, on local processes and on dask; and when one is killed.

The same eight compiles of two models, with nothing timed inside, are done by one worker and by two,
in turns, in every round in another order. A compile starts with an empty cache. dask workers are
processes behind a real scheduler on this machine's own network, one thread each, that have done one
compile before the clock starts, with dask's profiler of workers off; local processes are started
while the clock runs. dask workers do not read the files in place: models and data travel to them.
In the last setting a worker is killed when two results are in.

    pip install plugins/graphopt-dask
    python benchmarks/workers.py [--rounds N] [--more]

`--more` adds rounds to those that were recorded on this machine today.

Exits 1 when two dask workers are less than 1.6 times faster than one, in the median over rounds, or
when any setting gives other bytes than this process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from dask import config
from distributed import LocalCluster
from graphopt_dask.cluster import Cluster

import machine
import workloads
from graphopt.api import compile as compile_model
from graphopt.workers import Crew, InThisProcess, LocalProcesses, Parcel, Shelf, arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "workers.json"
BAR = 1.6
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

TASKS = (
    ("kws_dscnn_bn", ("prune-channels.to=macs=0.6x",)),
    ("kws_dscnn_bn", ("prune-channels.to=macs=0.7x",)),
    ("kws_dscnn_bn", ("prune-channels.to=macs=0.8x",)),
    ("kws_dscnn_bn", ("prune-channels.to=macs=0.9x",)),
    ("cifar10_resnet20", ("insert-qdq.scales=mse",)),
    ("cifar10_resnet20", ("insert-qdq.rounding=learned",)),
    ("cifar10_resnet20", ("insert-qdq.placement=integer", "insert-qdq.rounding=learned")),
    ("cifar10_resnet20", ("insert-qdq.placement=integer",)),
)
"""Models and what is set in their recipes; the longest compiles come first."""


@dataclass(frozen=True)
class Candidate:
    """A model to compile."""

    label: str
    model: Parcel
    data: Parcel
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return self.label


def compiled(candidate: Candidate, shelf: Shelf) -> tuple[str, float]:
    """Return the digest of the compiled model and the seconds that it took."""
    model, data = shelf.path(candidate.model), shelf.path(candidate.data)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GRAPHOPT_CACHE"] = cache
        made = compile_model(model, data=data, overrides=candidate.overrides, measure=False)
    kept = shelf.keep(made.to_bytes(), "model.onnx")
    return kept.digest, time.perf_counter() - started


def candidates(crew: Crew, folder: Path) -> list[Candidate]:
    """Return the list that every setting works through."""
    made = []
    for name, overrides in TASKS:
        (load,) = workloads.workloads([name])
        data = crew.parcel(load.write_calibration(folder))
        label = f"{name}: {' '.join(overrides)}"
        made.append(Candidate(label, crew.parcel(load.path), data, overrides))
    return made


def far_pool(cluster: LocalCluster) -> Cluster:
    """Return the workers of a cluster that read nothing of ours in place."""
    pool = Cluster(cluster.scheduler_address)
    pool.in_place = False
    return pool


@contextmanager
def dask(workers: int, folder: Path) -> Iterator[LocalCluster]:
    """Run a cluster whose workers have each done a compile."""
    settings = {
        # Otherwise a worker that is away when this is over, after any death, is not started again.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # What dask samples of its workers every 10 ms needs the interpreter that they work with.
        "distributed.worker.profile.enabled": False,
    }
    address = "127.0.0.1:0"
    with (
        config.set(settings),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=address) as cluster,
    ):
        with Crew(far_pool(cluster), executor="dask") as crew:
            first = candidates(crew, folder)[-1]
            list(crew.map(compiled, [first] * 3 * workers))
        yield cluster


def work(crew: Crew, folder: Path, meanwhile: Callable[[int], None]) -> dict[str, object]:
    """Do the list once; return seconds, digests and seconds within compiles."""
    with crew:
        todo = candidates(crew, folder)
        started = time.perf_counter()
        found: dict[int, tuple[str, float]] = {}
        for index, outcome in crew.map(compiled, todo):
            if isinstance(outcome, Exception):
                raise outcome
            found[index] = outcome
            meanwhile(len(found))
        seconds = time.perf_counter() - started
        pool = crew._pool
        travelled = (
            [sum(each.values()) for each in pool.client.run(arrivals, crew.name).values()]
            if isinstance(pool, Cluster)
            else []
        )
    return {
        "seconds": round(seconds, 3),
        "seconds_in_compiles": round(sum(seconds for _, seconds in found.values()), 3),
        "files_to_each_worker": sorted(travelled),
        "digests": [found[index][0] for index in range(len(todo))],
    }


def idle(done: int) -> None:
    """Do nothing while tasks are done."""


def killing(cluster: LocalCluster) -> Callable[[int], None]:
    """Return what kills a worker when two results are in."""

    def kill(done: int) -> None:
        if done == 2:
            pids = Cluster(cluster.scheduler_address).client.run(os.getpid)
            os.kill(min(pids.values()), signal.SIGKILL)

    return kill


def here(folder: Path) -> dict[str, object]:
    """Do the list in this process."""
    return work(Crew(InThisProcess(), executor=""), folder, idle)


def processes(folder: Path) -> dict[str, object]:
    """Do the list in two local processes."""
    return work(Crew(LocalProcesses(2), executor=""), folder, idle)


def dask_one(folder: Path) -> dict[str, object]:
    """Do the list with one dask worker."""
    with dask(1, folder) as cluster:
        return work(Crew(far_pool(cluster), executor=""), folder, idle)


def dask_two(folder: Path) -> dict[str, object]:
    """Do the list with two dask workers."""
    with dask(2, folder) as cluster:
        return work(Crew(far_pool(cluster), executor=""), folder, idle)


def dask_killed(folder: Path) -> dict[str, object]:
    """Do the list with two dask workers, of which one is killed."""
    with dask(2, folder) as cluster:
        return work(Crew(far_pool(cluster), executor=""), folder, killing(cluster))


SETTINGS = {
    "this process": here,
    "dask, 1 worker": dask_one,
    "dask, 2 workers": dask_two,
    "2 processes": processes,
    "dask, 2 workers, 1 killed": dask_killed,
}


def round_of(number: int, folder: Path) -> dict[str, dict[str, object]]:
    """Do the list once in every setting."""
    rows: dict[str, dict[str, object]] = {}
    labels = list(SETTINGS)
    turn = number % len(labels)
    for label in labels[turn:] + labels[:turn]:
        rows[label] = SETTINGS[label](folder)
        print(f"{label:36} {rows[label]['seconds']:8} s", flush=True)
    return rows


def summary(rounds: list[dict[str, dict[str, object]]]) -> dict[str, object]:
    """Return medians, speed-ups and whether all settings of a round give the same."""

    def median(label: str) -> float:
        return statistics.median(float(str(each[label]["seconds"])) for each in rounds)

    def gain(one: str, two: str) -> dict[str, float | list[float]]:
        ratios = [float(str(r[one]["seconds"])) / float(str(r[two]["seconds"])) for r in rounds]
        told = [round(ratio, 2) for ratio in ratios]
        return {"median": round(statistics.median(ratios), 2), "of_each_round": told}

    # Within a round: passes may have been edited before rounds that were added with `--more`.
    same = [len({tuple(row["digests"]) for row in rows.values()}) == 1 for rows in rounds]  # type: ignore[arg-type]
    return {
        "median_seconds": {label: round(median(label), 2) for label in SETTINGS},
        "two_dask_workers_against_one": gain("dask, 1 worker", "dask, 2 workers"),
        "two_processes_against_this_one": gain("this process", "2 processes"),
        "all_settings_give_the_same_bytes": all(same),
    }


def recorded(about: dict[str, object]) -> list[dict[str, dict[str, object]]]:
    """Return the rounds that were recorded on the same machine and day."""
    before = json.loads(RESULTS.read_text())
    same = ("processor", "cores", "date", "versions")
    if any(before["machine"][key] != about[key] for key in same):
        raise SystemExit("what was recorded is of another machine or day")
    return list(before["rounds"])


def main() -> int:
    """Run all rounds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", action="store_true")
    given = parser.parse_args()
    about = machine.describe()
    about["versions"] = {**about["versions"], "distributed": version("distributed")}  # type: ignore[dict-item]
    rounds = recorded(about) if given.more else []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            rounds.append(round_of(len(rounds), Path(folder)))
    told = summary(rounds)
    print(json.dumps(told, indent=1))
    tasks = [f"{name}: {' '.join(overrides)}" for name, overrides in TASKS]
    record = {"machine": about, "tasks": tasks, **told, "rounds": rounds}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    ratio = told["two_dask_workers_against_one"]["median"]  # type: ignore[index]
    return 0 if ratio >= BAR and told["all_settings_give_the_same_bytes"] else 1


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():  # read by numpy when it is loaded: again
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    sys.exit(main())
