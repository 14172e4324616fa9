"""Parcels are told by content, kept within bounds, checked when they arrive, and cleaned up."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import WorkerError
from graphopt.workers import arrivals, contents, folder, forget
from graphopt.workers import parcel as parcels
from graphopt.workers.store import Store, store_of
from tests.unit.workers import errands
from tests.unit.workers.conftest import crew_of

if TYPE_CHECKING:
    from graphopt.workers import Crew


def some(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    one = parcels.pack(some(tmp_path / "a.onnx"))
    other = parcels.pack(some(tmp_path / "elsewhere" / "a.onnx"))
    assert one.digest == other.digest == hashlib.sha256(b"content").hexdigest()
    assert (one.name, one.size, one.files) == ("a.onnx", 7, ("a.onnx",))
    assert one.key == other.key != parcels.pack(some(tmp_path / "b.onnx")).key


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=4))
def test_the_digest_of_several_depends_on_names_and_contents(parts: list[bytes]) -> None:
    digests = {str(index): hashlib.sha256(part).hexdigest() for index, part in enumerate(parts)}
    whole = parcels.digest_of(digests)
    assert whole == parcels.digest_of(dict(reversed(digests.items())))
    assert whole != parcels.digest_of({**digests, "0": hashlib.sha256(b"another" * 2).hexdigest()})
    assert whole != parcels.digest_of({f"{name}x": digest for name, digest in digests.items()})


def test_a_folder_and_files_beside_travel_together(crew: Crew, tmp_path: Path) -> None:
    some(tmp_path / "images" / "cat" / "1.png")
    some(tmp_path / "images" / "2.png", b"more")
    some(tmp_path / "model.onnx")
    some(tmp_path / "weights" / "model.data")
    some(tmp_path / "other.onnx")
    images = crew.parcel(tmp_path / "images")
    model = crew.parcel(tmp_path / "model.onnx", "weights/model.data")
    assert (images.size, images.files) == (11, ("images/2.png", "images/cat/1.png"))
    assert model.files == ("model.onnx", "weights/model.data")
    found = dict(crew.map(errands.names_below, [images, model]))
    assert {"images/2.png", "images/cat/1.png"} <= set(found[0])
    assert {"model.onnx", "weights/model.data"} <= set(found[1])
    if crew.executor == "elsewhere":
        assert "other.onnx" not in found[1]


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "..\\up", ""])
def test_nothing_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkerError) as caught:
        parcels.write(tmp_path / "in", {name: b"x"})
    assert caught.value.code == "G606"
    with pytest.raises(WorkerError):
        parcels.pack(some(tmp_path / "a"), name)
    with pytest.raises(WorkerError):
        parcels.describe(b"x", name, tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with crew_of("here") as crew, pytest.raises(WorkerError, match=r"`none\.npz` cannot be read"):
        crew.parcel(tmp_path / "none.npz")
    gone = parcels.pack(some(tmp_path / "gone"))
    gone.path.unlink()
    with pytest.raises(WorkerError, match="`gone` cannot be read") as caught:
        contents(gone)
    assert (caught.value.code, caught.value.where) == ("G606", str(gone.path))


def test_a_store_reads_in_place_what_it_can_read(tmp_path: Path) -> None:
    parcel = parcels.pack(some(tmp_path / "a"))
    store = Store()
    assert store.take(parcel) == parcel.path
    parcel.path.write_bytes(b"CONTENT")
    assert store.take(parcel) is None
    assert Store(in_place=False).take(parcel) is None


def test_a_store_keeps_what_arrives_once_and_whole(tmp_path: Path) -> None:
    parcel = parcels.pack(some(tmp_path / "a"))
    store = Store(in_place=False)
    store.put(parcel, contents(parcel))
    store.put(parcel, contents(parcel))
    kept = store.take(parcel)
    assert kept is not None
    assert (kept.read_bytes(), kept.name) == (b"content", "a")
    assert dict(store.arrived) == {parcel.digest: 1}
    store.close()
    assert not kept.exists()


def test_a_store_refuses_what_did_not_arrive_as_it_was_sent(tmp_path: Path) -> None:
    parcel = parcels.pack(some(tmp_path / "a"))
    store = Store(in_place=False)
    with pytest.raises(WorkerError, match="did not arrive as it was sent"):
        store.put(parcel, {"a": b"c0ntent"})
    assert store.take(parcel) is None


def test_a_store_lets_go_of_what_was_not_used_for_longest(tmp_path: Path) -> None:
    made = [parcels.pack(some(tmp_path / str(n), bytes([n]) * 100)) for n in range(4)]
    store = Store(limit=250, in_place=False)

    def arrive(number: int) -> None:
        store.put(made[number], contents(made[number]))

    def here() -> list[bool]:
        found = [store.take(parcel) is not None for parcel in made]
        for parcel in (each for each, there in zip(made, found, strict=True) if there):
            store.release(parcel.key)
        return found

    arrive(0)
    arrive(1)
    store.release(made[0].key)
    store.release(made[1].key)
    assert store.take(made[0]) is not None  # a task reads it again
    arrive(2)
    assert here() == [True, False, True, False]
    arrive(3)  # all others are being read: more than the limit, for now
    assert here() == [True, False, True, True]
    store.release(made[0].key)
    assert here() == [False, False, True, True]
    store.close()


def test_what_a_process_keeps_is_kept_by_crew(tmp_path: Path) -> None:
    parcel = parcels.pack(some(tmp_path / "a"))
    store_of("one", in_place=False).put(parcel, contents(parcel))
    assert arrivals("one") == {parcel.digest: 1}
    assert store_of("one").take(parcel) is not None
    assert arrivals("two") == {}
    forget("one")
    forget("two")
    assert arrivals("one") == {}


CLAIM = """
import os, signal, sys
from graphopt.workers.folder import claim
claimed = claim("graphopt-worker-")
print(claimed.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "killed" else None
"""


def test_folders_of_killed_processes_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(how: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", CLAIM, how],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode in {0, -signal.SIGKILL}
        return Path(done.stdout.strip())

    assert not run("ended").exists()
    left = run("killed")
    assert left.is_dir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = folder.claim("graphopt-worker-")
    assert not left.exists()
    other = folder.claim("graphopt-worker-")
    assert mine.path.is_dir()  # one that lives is left alone
    mine.release()
    other.release()
    assert list(tmp_path.iterdir()) == []
