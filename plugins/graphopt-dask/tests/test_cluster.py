"""On a cluster: the same results, files once per worker, and no task lost with a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt.errors import ModelError, WorkerError
from graphopt.registry import Registry
from graphopt.workers import Crew, InThisProcess, arrivals, open_crew

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import LocalCluster

MODELS = Path(__file__).resolve().parents[3] / "models"


@pytest.fixture(scope="module")
def errands() -> Any:
    import cluster_errands

    return cluster_errands


def joined(cluster: LocalCluster, *, in_place: bool = False) -> tuple[Crew, Any]:
    """Return a crew whose workers may read our files only if told so, and its pool."""
    from graphopt_dask.cluster import Cluster

    pool = Cluster(cluster.scheduler_address)
    pool.in_place = in_place
    return Crew(pool, executor=cluster.scheduler_address), pool


def results(crew: Crew, function: Callable[[Any, Any], Any], tasks: list[Any]) -> list[Any]:
    found = dict(crew.map(function, tasks))
    return [found[index] for index in range(len(tasks))]


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_address_of_a_scheduler_is_an_executor(cluster: LocalCluster, errands: Any) -> None:
    registry = Registry()
    assert {"tcp", "tls"} <= registry.executors().keys()
    address = cluster.scheduler_address
    assert address.startswith("tcp://")
    with open_crew(address, find=registry.executor) as crew:
        assert (crew.workers, crew.executor) == (2, address)
        parcel = crew.parcel(MODELS / "digits.npz")
        found = results(crew, errands.where, [parcel] * 8)
        assert os.getpid() not in {pid for pid, _ in found}
        # On one machine, or with a common file system, nothing needs to travel.
        assert {path for _, path in found} == {parcel.path}


def test_a_file_travels_once_to_each_worker_and_is_removed_in_the_end(
    cluster: LocalCluster, errands: Any, tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(12 << 20))  # above what dask would warn of
    crew, pool = joined(cluster)
    with crew:
        parcel = crew.parcel(path)
        found = results(crew, errands.digest, [(number, parcel) for number in range(40)])
        assert found == [(number, parcel.digest) for number in range(40)]
        counts = pool.client.run(arrivals, crew.name)
        assert list(counts.values()) == [{parcel.digest: 1}] * 2
        kept = {where for _, where in results(crew, errands.where, [parcel] * 8)}
        assert path not in kept
        assert all(where.is_file() for where in kept)
    assert not any(where.exists() for where in kept)
    with joined(cluster)[0] as again:  # the cluster goes on for others
        assert again.workers == 2


def test_the_cluster_keeps_no_result_that_was_received(
    cluster: LocalCluster, errands: Any, tmp_path: Path
) -> None:
    (tmp_path / "data.bin").write_bytes(b"abc")
    crew, pool = joined(cluster)
    with crew:
        parcel = crew.parcel(tmp_path / "data.bin")
        for done, _ in enumerate(crew.map(errands.digest, [(n, parcel) for n in range(20)]), 1):
            out = min(pool.ahead, 20 - done)
            until(lambda out=out: len(pool.client.futures) <= out + 1)  # 1: the file
    assert pool.client.status == "closed"


def test_what_a_worker_made_comes_back_and_travels_on(
    cluster: LocalCluster, errands: Any, tmp_path: Path
) -> None:
    (tmp_path / "data.bin").write_bytes(b"abc")
    crew, _ = joined(cluster)
    with crew:
        (made,) = results(crew, errands.reverse, [crew.parcel(tmp_path / "data.bin")])
        assert made.path.read_bytes() == b"cba"
        again = results(crew, errands.reverse, [made] * 6)
        assert {each.path.read_bytes() for each in again} == {b"abc"}


def test_a_worker_killed_in_the_middle_loses_nothing(
    cluster: LocalCluster, errands: Any, tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(b"content" * 1000)
    with Crew(InThisProcess(), executor="here") as here:
        parcel = here.parcel(path)
        for number in range(12):
            (tmp_path / f"{number}").touch()
        expected = results(
            here, errands.die_first, [(n, parcel, tmp_path / f"{n}") for n in range(12)]
        )
    (tmp_path / "4").unlink()
    (tmp_path / "9").unlink()
    crew, pool = joined(cluster)
    with crew:
        before = pool.client.run(os.getpid).values()
        tasks = [(n, crew.parcel(path), tmp_path / f"{n}") for n in range(12)]
        assert results(crew, errands.die_first, tasks) == expected
        until(lambda: pool.workers == 2)
        assert set(before) - set(pool.client.run(os.getpid).values())


def test_a_worker_killed_from_outside_loses_nothing(
    cluster: LocalCluster, errands: Any, tmp_path: Path
) -> None:
    def kill() -> None:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        os.kill(int(next(tmp_path.glob("*.pid")).stem), signal.SIGKILL)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    crew, _ = joined(cluster)
    with crew:
        assert results(crew, errands.wait_for, [(n, tmp_path) for n in range(6)]) == list(range(6))
    killer.join()


def test_a_task_that_kills_its_workers_is_given_up_and_the_rest_is_done(
    cluster: LocalCluster, errands: Any
) -> None:
    crew, _ = joined(cluster)
    with crew:
        found = results(crew, errands.die_of_two, list(range(5)))
    error = found.pop(2)
    assert found == [0, 1, 3, 4]
    assert isinstance(error, WorkerError)
    assert (error.code, "of the task `2`" in error.message) == ("G602", True)


def test_an_error_that_is_the_users_comes_back_whole(cluster: LocalCluster, errands: Any) -> None:
    crew, _ = joined(cluster)
    with crew:
        (error,) = results(crew, errands.refuse, [1])
    assert type(error) is ModelError
    assert (error.code, error.where, error.hint) == ("G205", "node `a`", "look at it")


def test_workers_of_another_version_are_refused(
    cluster: LocalCluster, errands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.workers import crew as crews

    ours = (("graphopt", "9.9"), *crews.likeness()[1:])
    monkeypatch.setattr(crews, "likeness", lambda: ours)
    crew, _ = joined(cluster)
    with crew, pytest.raises(WorkerError, match=r"graphopt 9\.9 here and") as caught:
        results(crew, errands.die_of_two, [1])
    assert caught.value.code == "G603"


def test_a_compiled_model_is_the_same_bytes_as_one_compiled_here(
    cluster: LocalCluster, errands: Any
) -> None:
    options = ["insert-qdq.scales=mse", "insert-qdq.placement=integer"]
    digests = []
    for crew in (Crew(InThisProcess(), executor="here"), joined(cluster)[0]):
        with crew:
            model = crew.parcel(MODELS / "digits_resnet.onnx")
            data = crew.parcel(MODELS / "digits.npz")
            made = results(crew, errands.compiled, [(model, data, option) for option in options])
            digests.append([each.digest for each in made])
    assert digests[0] == digests[1]


def test_a_cluster_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt_dask import cluster as clusters

    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 0.3)
    with pytest.raises(WorkerError, match="no scheduler answers at tcp://127") as caught:
        open_crew("tcp://127.0.0.1:9", find=Registry().executor)
    assert caught.value.code == "G604"


def test_a_cluster_without_workers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster
    from graphopt_dask import cluster as clusters

    monkeypatch.setattr(clusters, "WORKER_SECONDS", 0.3)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(WorkerError, match="no worker has joined") as caught,
    ):
        open_crew(empty.scheduler_address, find=Registry().executor)
    assert caught.value.code == "G604"
    assert "dask worker tcp://" in str(caught.value.hint)


def test_a_cluster_that_loses_all_its_workers_is_an_error(
    errands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster
    from graphopt_dask import cluster as clusters

    from graphopt.workers import crew as crews

    monkeypatch.setattr(crews, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(clusters, "COUNT_SECONDS", 0.1)
    monkeypatch.setattr(clusters, "WORKER_SECONDS", 3.0)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as small:
        crew, _ = joined(small)
        leaving = threading.Timer(0.5, lambda: small.scale(0))
        leaving.start()
        with crew, pytest.raises(WorkerError, match="all workers of the cluster") as caught:
            results(crew, errands.wait_for, [(1, tmp_path)])
        leaving.join()
        (tmp_path / "go").touch()
    assert caught.value.code == "G604"


def test_a_scheduler_that_ends_in_the_middle_is_an_error(
    errands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    from graphopt.workers import crew as crews

    monkeypatch.setattr(crews, "LOOK_SECONDS", 0.1)
    small = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    crew, _ = joined(small)
    ending = threading.Timer(0.5, small.close)
    ending.start()
    with crew, pytest.raises(WorkerError) as caught:
        results(crew, errands.wait_for, [(1, tmp_path)])
    (tmp_path / "go").touch()
    ending.join()
    assert caught.value.code == "G604"
