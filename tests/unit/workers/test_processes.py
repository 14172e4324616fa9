"""Local processes: spawned, single-threaded, and few enough for the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

import pytest

from graphopt.errors import WorkerError
from graphopt.registry import Registry
from graphopt.workers import Crew, LocalProcesses, Plain, capacity, open_crew
from tests.unit.workers import errands

if TYPE_CHECKING:
    from pathlib import Path


def test_each_worker_is_another_process_that_computes_with_one_thread() -> None:
    before = dict(os.environ)
    with Crew(LocalProcesses(2), executor="") as crew:
        found = [outcome for _, outcome in crew.map(errands.process, range(6))]
    assert len({each[0] for each in found} - {os.getpid()}) == 2
    assert {each[1:] for each in found} == {("1", "1")}
    assert dict(os.environ) == before


def test_it_is_an_executor() -> None:
    with LocalProcesses(1) as pool:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
        assert isinstance(pool.submit(os._exit, 3).exception(), BrokenProcessPool)
        assert pool.submit(abs, -4).result() == 4
        with pytest.raises(AttributeError, match="lambda"):
            pool.submit(lambda: 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)


def test_waiting_tasks_are_cancelled_when_told_so() -> None:
    pool = LocalProcesses(1)
    running = pool.submit(abs, -1)
    running.result()
    futures = [pool.submit(abs, -1) for _ in range(50)]
    pool.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)


def test_shutdown_at_once_kills_what_runs(tmp_path: Path) -> None:
    pool = LocalProcesses(2)
    future = pool.submit(errands.sleep, (600.0, tmp_path), None)
    pool.shutdown(wait=False)
    with pytest.raises((BrokenProcessPool, CancelledError)):
        future.result(timeout=120)


def test_a_script_without_its_main_clause_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from graphopt.workers import LocalProcesses\nLocalProcesses(1).submit(abs, -1).result()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert "error[G605]: a worker process could not be started" in done.stderr
    assert "call graphopt below `if __name__ == '__main__':`" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "peak", "free", "cores", "workers"),
    [
        (None, 0, 100 << 30, 8, 8),
        (3, 0, 100 << 30, 8, 3),
        (16, 0, 100 << 30, 8, 16),
        (None, 1 << 30, 4 << 30, 8, 3),
        (4, 8 << 30, 4 << 30, 8, 1),
        (None, 1 << 40, None, 8, 8),
    ],
)
def test_workers_are_bounded_by_cores_and_by_memory(
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | None,
    peak: int,
    free: int | None,
    cores: int,
    workers: int,
) -> None:
    monkeypatch.setattr(capacity, "free_bytes", lambda: free)
    monkeypatch.setattr(capacity, "cores", lambda: cores)
    assert capacity.affordable_workers(peak, wanted) == workers


def test_a_container_has_what_its_limits_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(capacity, "_CGROUP", tmp_path)
    unlimited = capacity.free_bytes()
    assert unlimited is not None
    (tmp_path / "memory.max").write_text("2000000\n")
    (tmp_path / "memory.current").write_text("1500000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 250000\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert capacity.free_bytes() == 750000
    assert capacity.cores() == 1
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert capacity.free_bytes() != 750000
    assert capacity.cores() == len(os.sched_getaffinity(0))


def test_a_system_that_does_not_say_what_is_free_has_half_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(capacity, "_CGROUP", tmp_path)
    monkeypatch.setattr(capacity, "_PROC", tmp_path / "none")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert capacity.free_bytes() == total // 2


def find(scheme: str) -> object:
    return Registry(plugins=()).executor(scheme)


def test_one_worker_is_this_process() -> None:
    with open_crew(find=find, workers=1) as crew:  # type: ignore[arg-type]
        assert (crew.workers, crew.executor) == (1, "this process")
        assert [pid for _, (pid, *_) in crew.map(errands.process, [1])] == [os.getpid()]


def test_an_executor_is_found_by_its_scheme() -> None:
    with open_crew("local://2", find=Registry(plugins=()).executor) as crew:
        assert (crew.workers, crew.executor) == (2, "local://2")
        assert dict(crew.map(errands.double, [1])) == {0: 2}
    with open_crew("local://", find=Registry(plugins=()).executor) as crew:
        assert crew.workers >= 1


def test_a_plain_executor_is_as_good() -> None:
    with open_crew("threads://", find=lambda _: lambda _: ThreadPoolExecutor(3)) as crew:
        assert crew.workers == 3
        assert sorted(crew.map(errands.double, [1, 2, 3])) == [(0, 2), (1, 4), (2, 6)]
    assert Plain(ThreadPoolExecutor(1), workers=5).workers == 5


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("tcp://scheduler:8786", "unknown executor `tcp`", "`pip install graphopt-dask`"),
        ("tls://scheduler:8786", "unknown executor `tls`", "`pip install graphopt-dask`"),
        ("locale://2", "unknown executor `locale`", "did you mean `local`?"),
        ("scheduler:8786", "is not the URL of an executor", "such as `tcp://scheduler:8786`"),
        ("local://two", "does not say how many", "`local://2`"),
        ("local://0", "does not say how many", "`local://2`"),
    ],
)
def test_an_unknown_executor_is_an_error_that_says_what_would_bring_it(
    url: str, message: str, hint: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        open_crew(url, find=Registry(plugins=()).executor)
    assert caught.value.code == "G601"
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
