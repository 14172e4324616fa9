"""Results come from tasks alone: not from how many workers there are, nor which of them die."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from graphopt.errors import GraphOptError, LimitError, ModelError, WorkerError
from graphopt.workers import TRIES, Crew, InThisProcess, LocalProcesses
from graphopt.workers import order as orders
from tests.unit.workers import errands
from tests.unit.workers.conftest import ROOT, crew_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Watch:
    """Notes progress."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def progress(self, label: str, done: int, total: int) -> None:
        self.seen.append((label, done, total))


def results(crew: Crew, function: Callable[[Any, Any], Any], tasks: list[Any]) -> list[Any]:
    found = dict(crew.map(function, tasks))
    assert sorted(found) == list(range(len(tasks)))
    return [found[index] for index in range(len(tasks))]


def test_every_task_is_done_once(crew: Crew) -> None:
    assert results(crew, errands.double, list(range(20))) == list(range(0, 40, 2))
    assert results(crew, errands.double, []) == []


def test_what_is_done_is_counted() -> None:
    watch = Watch()
    with Crew(InThisProcess(), executor="here", observe=watch) as crew:  # type: ignore[arg-type]
        list(crew.map(errands.double, [1, 2, 3], label="doubling"))
    assert watch.seen == [("doubling", done, 3) for done in range(4)]


def test_results_are_the_same_bytes_for_any_kind_and_number_of_workers(tmp_path: Path) -> None:
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(7).normal(size=(64, 64)))
    digests = []
    for kind in ("here", "processes", "elsewhere"):
        with crew_of(kind, tmp_path / kind) as crew:
            parcel = crew.parcel(data)
            made = results(crew, errands.product, [(seed, parcel) for seed in range(6)])
            digests.append([each.digest for each in made])
            assert [hashlib.sha256(m.path.read_bytes()).hexdigest() for m in made] == digests[-1]
            assert {m.path.is_relative_to(tmp_path / kind) for m in made} == {True}
            again = results(crew, errands.read, [(m, parcel) for m in made])
            assert [each[0] for each in again] == [m.path.read_bytes() for m in made]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 6


def test_what_workers_made_is_gone_with_a_crew_that_has_no_folder(tmp_path: Path) -> None:
    data = tmp_path / "data.npy"
    np.save(data, np.eye(3))
    with crew_of("here") as crew:
        (made,) = results(crew, errands.product, [(1, crew.parcel(data))])
        assert made.path.is_file()
    assert not made.path.exists()


@pytest.mark.parametrize(
    ("task", "kind", "code", "where", "hint"),
    [
        ("model", ModelError, "G205", "node `a`", "look at it"),
        ("limit", LimitError, "G503", "model.onnx", "prune"),
        ("own", GraphOptError, "G501", "blue", "plug"),
    ],
)
def test_an_error_that_is_the_users_is_the_result(
    crew: Crew, task: str, kind: type[GraphOptError], code: str, where: str, hint: str
) -> None:
    (error,) = results(crew, errands.refuse, [task])
    assert type(error) is kind
    assert (error.code, error.where, error.hint) == (code, where, hint)
    assert str(error).startswith(f"error[{code}]: ")
    if task == "limit":
        assert error.compiled is None
    if task == "model":
        assert error.__notes__ == ["seen twice"]


def test_errors_keep_code_place_and_hint_when_pickled() -> None:
    error = orders.portable(ModelError("m", code="G207", where="w", hint="h"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (ModelError, str(error))
    assert (again.message, again.code, again.where, again.hint) == ("m", "G207", "w", "h")


def test_a_bug_is_raised_with_the_trace_of_the_worker() -> None:
    with crew_of("processes") as crew, pytest.raises(ValueError, match="a bug") as caught:
        list(crew.map(errands.blunder, ["bug"]))
    assert "in blunder" in caught.value.__notes__[0]


@pytest.mark.parametrize(("task", "told"), [("fragile", "1, 2"), ("unpicklable", "lambda")])
def test_what_cannot_be_sent_back_is_told_all_the_same(task: str, told: str) -> None:
    with crew_of("processes") as crew, pytest.raises(Exception, match=told):
        list(crew.map(errands.blunder, [task]))


def test_the_task_of_a_worker_that_dies_is_done_by_another(tmp_path: Path) -> None:
    tasks = [(number, tmp_path / f"died-{number % 4}") for number in range(8)]
    with crew_of("processes") as crew:
        assert results(crew, errands.die_first, tasks) == list(range(8))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_task_that_kills_every_worker_is_given_up_and_named_and_the_rest_is_done() -> None:
    with crew_of("processes") as crew:
        found = results(crew, errands.die_of_three, list(range(8)))
    error = found.pop(3)
    assert found == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(error, WorkerError)
    assert error.code == "G602"
    assert f"{TRIES} workers died of the task `3`" in error.message


def test_where_deaths_are_laid_to_others_as_well_only_the_guilty_task_is_given_up() -> None:
    blamed: set[int] = set()

    class Together(LocalProcesses):
        """Lays three deaths to every task once, as clusters do to those that a worker had."""

        is_sure = False

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if args[0].task in blamed | {3}:
                return super().submit(fn, *args, **kwargs)
            blamed.add(args[0].task)
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor())
            return future

        def deaths(self, error: BaseException) -> int:
            return TRIES

    with Crew(Together(2), executor="unsure") as crew:
        found = results(crew, errands.die_of_three, list(range(8)))
    assert isinstance(found.pop(3), WorkerError)
    assert found == [0, 1, 2, 4, 5, 6, 7]


def test_leaving_the_loop_stops_the_rest_and_the_crew_goes_on(tmp_path: Path) -> None:
    with crew_of("processes") as crew:
        started = time.monotonic()
        tasks = [(0.01, tmp_path), (600.0, tmp_path), (600.0, tmp_path), (600.0, tmp_path)]
        for _ in crew.map(errands.sleep, tasks):
            break
        assert results(crew, errands.double, [1, 2, 3]) == [2, 4, 6]
    assert time.monotonic() - started < 120


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = (("graphopt", "9.9"), *orders.likeness()[1:])
    with crew_of("processes") as crew:
        monkeypatch.setattr("graphopt.workers.crew.likeness", lambda: ours)
        with pytest.raises(WorkerError, match=r"graphopt 9\.9 here and 0\.1\.0 there") as caught:
            list(crew.map(errands.double, [1]))
    assert caught.value.code == "G603"
    assert "onnx " not in caught.value.message


def test_only_what_the_crew_packed_is_sent(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with crew_of("here") as other, crew_of("elsewhere") as crew:
        foreign = other.parcel(tmp_path / "secret")
        with pytest.raises(WorkerError, match="asks for `secret`") as caught:
            list(crew.map(errands.read, [(foreign,)]))
    assert caught.value.code == "G606"


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    for kind in ("processes", "elsewhere"):
        path.write_bytes(b"one")
        with crew_of(kind) as crew:
            parcel = crew.parcel(path)
            path.write_bytes(b"two")
            with pytest.raises(WorkerError, match=r"`model\.onnx` changed") as caught:
                list(crew.map(errands.read, [(parcel,)]))
        assert caught.value.code == "G606"


def test_a_task_that_catches_all_exceptions_still_gets_its_parcel(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    with crew_of("elsewhere") as crew:
        assert results(crew, errands.read_carelessly, [crew.parcel(tmp_path / "a")]) == [b"content"]


SCRIPT = """
import signal
import sys
from pathlib import Path
from tests.unit.workers import errands
from tests.unit.workers.conftest import crew_of
if __name__ == "__main__":
    # What a shell without job control runs in the background is started with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with crew_of("processes") as crew:
        list(crew.map(errands.sleep, [(600.0, Path(sys.argv[1]))] * 4))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_program_is_stopped(tmp_path: Path, how: int) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    folder.mkdir()
    program = subprocess.Popen(
        [sys.executable, script, folder],
        env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: len(list(folder.iterdir())) == 2)
    workers = [psutil.Process(int(path.name)) for path in folder.iterdir()]
    if how == signal.SIGINT:  # as the terminal sends it: to all of them
        os.killpg(program.pid, how)
    else:
        program.send_signal(how)
    _, told = program.communicate(timeout=120)
    gone, left = psutil.wait_procs(workers, timeout=120)
    assert (len(gone), left) == (2, [])
    if how == signal.SIGINT:
        assert told.count(b"KeyboardInterrupt") == 1
        assert not list(tmp_path.glob("graphopt-*"))


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
