"""Measures the models of a bundle on the device that it runs on; no network, nothing installed.

The modules of this package are carried to devices inside the archive that ``graphopt profile
--bundle`` writes, so they need Python 3.9, onnxruntime and numpy and nothing else. Results are JSON
lines: a header with the facts of the device, then one line per measurement, each written as soon as
it is known, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import statistics
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from graphopt.runtime.device import SCHEMA
from graphopt.runtime.device.facts import core_count, device_facts
from graphopt.runtime.device.timing import (
    make_feeds,
    open_model,
    profile_model,
    runner,
    time_in_turns,
)

MINUTES = 4.0

_ANCHOR_EVERY = 15.0
_ANCHOR_SECONDS = 0.25
_CLEAN_PART = 0.65
"""Of the time that is left for a measurement; the rest is for opening and closing sessions."""
_VISITS = 2
"""Times that every model is measured: what disturbs one visit is gone at the next."""
_LATER = 0.6
_EARLY = 0.6
"""Whole models are drawn into this first part of the order, for a device that is too slow."""


class Bundle:
    """Models and their manifest, in a folder or in a zip archive."""

    def __init__(self, place: str) -> None:
        self._place = Path(place)
        self._archive = zipfile.ZipFile(place) if self._place.is_file() else None
        text = self.read("manifest.json")
        self.manifest: dict[str, Any] = json.loads(text)
        self.digest = hashlib.sha256(text).hexdigest()

    def read(self, name: str) -> bytes:
        """Return the content of a file of the bundle."""
        if self._archive is not None:
            return self._archive.read(name)
        return (self._place / name).read_bytes()


class Results:
    """The file of results: what is there already, and a place for more."""

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        self.path = Path(path)
        self.lines = _complete_lines(self.path)
        if self.lines and self.lines[0].get("digest") != header["digest"]:
            raise SystemExit(f"{path} holds the results of other models: name another file")
        self.done = {
            (line["job"], line["threads"], line["visit"]) for line in self.lines if "job" in line
        }
        self.anchors = [line["anchor_us"] for line in self.lines if "anchor_us" in line]
        self.spent = max((line.get("at", 0.0) for line in self.lines), default=0.0)
        whole = "".join(_line(each) for each in self.lines or [header])
        self.path.write_text(whole, encoding="utf-8")

    def add(self, line: dict[str, Any]) -> None:
        """Write one more line; it is on the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(line))
            stream.flush()
            os.fsync(stream.fileno())


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True) + "\n"


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an earlier run; one that was cut off by an interruption is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    if lines and lines[0].get("graphopt_measurements") != SCHEMA:
        raise SystemExit(f"{path} is something else: name another file")
    return lines


class Task:
    """A job with a number of threads, and whether it is the first or a later visit."""

    def __init__(self, job: dict[str, Any], threads: int, visit: int) -> None:
        self.job = job
        self.threads = threads
        self.visit = visit

    @property
    def key(self) -> tuple[str, int, int]:
        """What its line in the results is known by."""
        return self.job["name"], self.threads, self.visit

    @property
    def weight(self) -> float:
        """Its share of the time; later visits are not profiled."""
        weight: float = self.job["weight"]
        return weight if self.visit == 0 else weight * _LATER


class Measurement:
    """One run of this program over a bundle."""

    def __init__(self, bundle: Bundle, results: Results, minutes: float, show: Progress) -> None:
        self._bundle = bundle
        self._results = results
        self._show = show
        self._begin = time.perf_counter() - results.spent
        self._deadline = self._begin + minutes * 60
        if self._deadline - time.perf_counter() < 1:
            self._deadline = time.perf_counter() + minutes * 60
        self._anchored = -_ANCHOR_EVERY
        anchor = bundle.manifest["anchor"]
        session = open_model(bundle.read(anchor["file"]), 1)
        self._anchor = runner(session, make_feeds(anchor["feeds"]))

    def run(self, tasks: list[Task]) -> int:
        """Measure what is not measured yet; return how many tasks there was no time for."""
        waiting = [task for task in tasks if task.key not in self._results.done]
        done = len(tasks) - len(waiting)
        weight = sum(task.weight for task in waiting)
        for index, task in enumerate(waiting):
            left = self._deadline - time.perf_counter()
            if left <= 0:
                self._watch_drift(force=True)
                return len(waiting) - index
            self._watch_drift()
            self._measure(task, left * task.weight / weight)
            weight -= task.weight
            self._show.update(done + index + 1, len(tasks), left, self._results.anchors)
        self._watch_drift(force=True)
        return 0

    def _measure(self, task: Task, seconds: float) -> None:
        begin = time.perf_counter()
        name, threads, visit = task.key
        line: dict[str, Any] = {"job": name, "threads": threads, "visit": visit}
        try:
            line.update(self._times(task, begin + seconds))
        except Exception as error:  # a kernel that this runtime does not have
            line["error"] = str(error).strip().splitlines()[0][:200] if str(error) else "failed"
        line["at"] = round(time.perf_counter() - self._begin, 3)
        self._results.add(line)

    def _times(self, task: Task, end: float) -> dict[str, Any]:
        models = [self._bundle.read(name) for name in task.job["files"]]
        feeds = make_feeds(task.job["feeds"])
        sessions = [open_model(data, task.threads) for data in models]
        left = max(end - time.perf_counter(), 0.01)
        part = _CLEAN_PART if task.visit == 0 else 1.0
        samples = time_in_turns([runner(s, feeds) for s in sessions], left * part)
        found: dict[str, Any] = {
            "runs": len(samples[0]),
            "min_us": [round(min(each), 3) for each in samples],
            "median_us": [round(statistics.median(each), 3) for each in samples],
        }
        del sessions
        if task.visit == 0:
            left = max(end - time.perf_counter(), 0.01)
            kernels = profile_model(models[-1], task.threads, feeds, left * _CLEAN_PART)
            found["kernels"] = kernels
        return found

    def _watch_drift(self, *, force: bool = False) -> None:
        now = time.perf_counter()
        if not force and now - self._anchored < _ANCHOR_EVERY:
            return
        (samples,) = time_in_turns([self._anchor], _ANCHOR_SECONDS)
        self._results.anchors.append(round(min(samples), 3))
        at = round(time.perf_counter() - self._begin, 3)
        self._results.add({"anchor_us": self._results.anchors[-1], "at": at})
        self._anchored = time.perf_counter()


class Progress:
    """One line on stderr that is written over; a line every 10 % where stderr is a file."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._told = 0
        self._start = time.perf_counter()
        self._first = -1

    def update(self, done: int, total: int, left: float, anchors: list[float]) -> None:
        """Show how far it is, how fast, how long it will take, and how much the clock drifts."""
        self._first = done - 1 if self._first < 0 else self._first
        percent = done * 100 // total
        if self._quiet or not (self._live or percent >= self._told + 10 or done == total):
            return
        self._told = percent
        rate = (done - self._first) / max(time.perf_counter() - self._start, 1e-9)
        wait = min(max(left, 0.0), (total - done) / rate)
        drift = (max(anchors) / min(anchors) - 1) * 100 if anchors else 0.0
        text = f"measured {done} of {total} ({percent} %), {rate:.1f}/s, "
        text += f"{int(wait // 60)}:{int(wait % 60):02d} left, drift {drift:.1f} %"
        sys.stderr.write(f"\r{text:<78}" if self._live else f"{text}\n")
        if self._live and done == total:
            sys.stderr.write("\n")
        sys.stderr.flush()


def tasks_of(manifest: dict[str, Any], threads: int) -> list[Task]:
    """Return two visits of every job and thread count, each round in a seeded random order.

    Neighbours in the list of models must not be neighbours in time, or a clock that drifts would
    look like a property of a class of kernels. Whole models come early in each round.
    """
    machines = "arm" if platform.machine().lower() in ("aarch64", "arm64") else "x86"
    jobs = [job for job in manifest["jobs"] if job["machines"] in ("", machines)]
    pairs = [(job, 1) for job in jobs]
    if threads > 1:
        pairs += [(job, threads) for job in jobs if job["parallel"]]
    draw = random.Random(manifest["seed"])  # noqa: S311  (an order, not a secret)
    tasks = []
    for visit in range(_VISITS):
        places = [draw.random() * (_EARLY if job["early"] else 1.0) for job, _ in pairs]
        ordered = sorted(zip(places, pairs), key=lambda each: each[0])  # noqa: B905  (Python 3.9)
        tasks += [Task(job, count, visit) for _, (job, count) in ordered]
    return tasks


def main(arguments: list[str] | None = None) -> int:
    """Measure a bundle; returns the exit code."""
    inside = zipfile.is_zipfile(sys.argv[0]) if sys.argv else False
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description="Measure this device for graphopt: nothing is installed or sent.",
    )
    parser.add_argument("results", help="file to write; an interrupted one is continued")
    parser.add_argument("--bundle", required=not inside, help="folder or archive of models")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time to spend")
    parser.add_argument("--threads", type=int, default=0, help="besides one (all cores)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    given = parser.parse_args(arguments)
    bundle = Bundle(given.bundle or sys.argv[0])
    threads = given.threads if given.threads > 0 else core_count()
    header = {
        "graphopt_measurements": SCHEMA,
        "digest": bundle.digest,
        "seed": bundle.manifest["seed"],
        "version": bundle.manifest["version"],
        "threads": sorted({1, threads}),
        "device": device_facts(),
    }
    results = Results(given.results, header)
    show = Progress(given.quiet)
    tasks = tasks_of(bundle.manifest, threads)
    try:
        missed = Measurement(bundle, results, given.minutes, show).run(tasks)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command goes on from here\n")
        return 130
    if missed and not given.quiet:
        sys.stderr.write(f"\nno time was left for {missed} of {len(tasks)} measurements\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
