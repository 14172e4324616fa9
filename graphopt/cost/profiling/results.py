"""Reads a file of results; it comes from another machine, so nothing in it is believed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from graphopt.cost.profiling.measurements import Drift
from graphopt.errors import TargetError
from graphopt.runtime.device import SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_FILE = 32 << 20
_MOST_LINES = 20_000
_MOST_KERNELS = 5_000
_LONGEST_TEXT = 200
_MOST_FLAGS = 1_000
_LONGEST_US = 1e10
_MOST_THREADS = 4_096


@dataclass(frozen=True)
class KernelEvent:
    """One kernel of a model under onnxruntime's profiler; times in microseconds."""

    name: str
    op: str
    us: float
    median_us: float


@dataclass(frozen=True)
class Timed:
    """One job with one number of threads, all visits together.

    Args:
        job: its name in the bundle.
        threads: that it was measured with.
        at: seconds since the measurement began, of the first visit.
        min_us: shortest time of each of its models.
        median_us: medians.
        kernels: of its last model, in order of execution.
        error: why it could not be measured; empty when it was.
    """

    job: str
    threads: int
    at: float
    min_us: tuple[float, ...] = ()
    median_us: tuple[float, ...] = ()
    kernels: tuple[KernelEvent, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class DeviceResults:
    """A whole file.

    Args:
        device: facts of the device, texts and numbers of known keys alone.
        digest: of the bundle's manifest.
        version: of the graphopt that made the bundle.
        threads: numbers of threads that were measured.
        timed: what was measured.
        drift: of the clock.
    """

    device: dict[str, Any]
    digest: str
    version: str
    threads: tuple[int, ...]
    timed: tuple[Timed, ...]
    drift: Drift


def read_results(path: Path) -> DeviceResults:
    """Return the results in a file of JSON lines.

    Raises:
        TargetError: G504, the file cannot be read, is too large, or holds something else; the
            place is the line.
    """
    lines = _lines(path)
    if not lines or lines[0].get("graphopt_measurements") != SCHEMA:
        _fail("the file holds no measurements of a device", str(path))
    reader = _Reader(str(path))
    reader.line(1, lines[0])
    head = lines[0]
    device = reader.device(head.get("device"))
    threads = tuple(reader.whole(n, 1, _MOST_THREADS) for n in reader.items(head, "threads", 16))
    digest, version = reader.text(head.get("digest")), reader.text(head.get("version"))
    timed: list[Timed] = []
    seconds: list[float] = []
    anchors: list[float] = []
    for number, line in enumerate(lines[1:], 2):
        reader.line(number, line)
        at = reader.number(line.get("at"), 0.0)
        if "anchor_us" in line:
            seconds.append(at)
            anchors.append(reader.number(line["anchor_us"]))
        else:
            timed.append(reader.timed(line, at))
    order = sorted(range(len(seconds)), key=seconds.__getitem__)
    drift = Drift(tuple(seconds[i] for i in order), tuple(anchors[i] for i in order))
    return DeviceResults(device, digest, version, threads, _merged(timed), drift)


def _merged(timed: list[Timed]) -> tuple[Timed, ...]:
    """Join the visits of one job: of each of its models the better time, kernels of the first."""
    found: dict[tuple[str, int], Timed] = {}
    for each in timed:
        first = found.setdefault((each.job, each.threads), each)
        if first is each or len(first.min_us) != len(each.min_us):
            continue
        found[first.job, first.threads] = replace(
            first,
            min_us=tuple(map(min, first.min_us, each.min_us)),
            median_us=tuple(map(min, first.median_us, each.median_us)),
            kernels=first.kernels or each.kernels,
        )
    return tuple(found.values())


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            _fail(f"the file has more than {_LARGEST_FILE >> 20} MB", str(path))
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        _fail(f"the file cannot be read: {error.strerror}", str(path))
    except UnicodeDecodeError:
        _fail("the file holds no measurements of a device", str(path))
    if len(texts) > _MOST_LINES:
        _fail(f"the file has more than {_MOST_LINES} lines", str(path))
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            if number == len(texts) and lines:
                break  # cut off when the measurement was interrupted
            _fail("the line is not JSON", f"{path}:{number}")
        if not isinstance(line, dict):
            _fail("the line is not an object", f"{path}:{number}")
        lines.append(line)
    return lines


class _Reader:
    """Takes values of the right type and range out of the lines of one file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._where = path

    def line(self, number: int, content: dict[str, Any]) -> None:
        """Name the line that errors are in from here on."""
        self._where = f"{self._path}:{number}"
        if len(content) > _LONGEST_TEXT:
            self._refuse("too many keys")

    def text(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
            self._refuse("a short text is missing")
        return value

    def number(self, value: object, low: float = 1e-3, high: float = _LONGEST_US) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse("a number is missing")
        if not (math.isfinite(value) and low <= value <= high):
            self._refuse(f"the number {value} is out of its range")
        return float(value)

    def whole(self, value: object, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse("a whole number is missing")
        if not low <= value <= high:
            self._refuse(f"the number {value} is out of its range")
        return value

    def items(self, line: dict[str, Any], key: str, most: int) -> list[Any]:
        value = line.get(key, [])
        if not isinstance(value, list) or len(value) > most:
            self._refuse(f"`{key}` is no list, or too long")
        return value

    def device(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse("`device` is missing")
        names = ("processor", "machine", "system", "runtime", "numpy", "python", "governor")
        facts: dict[str, Any] = {name: self.text(value.get(name, "")) for name in names}
        facts["flags"] = [self.text(flag) for flag in self.items(value, "flags", _MOST_FLAGS)]
        facts["cores"] = self.whole(value.get("cores", 1), 1, _MOST_THREADS)
        for name in ("mhz", "max_mhz"):
            given = value.get(name)
            facts[name] = None if given is None else self.number(given, 0.0, 1e6)
        return facts

    def timed(self, line: dict[str, Any], at: float) -> Timed:
        job = self.text(line.get("job"))
        threads = self.whole(line.get("threads"), 1, _MOST_THREADS)
        if "error" in line:
            return Timed(job, threads, at, error=self.text(line["error"]))
        shortest = tuple(self.number(v) for v in self.items(line, "min_us", 8))
        medians = tuple(self.number(v) for v in self.items(line, "median_us", 8))
        if not shortest or len(shortest) != len(medians):
            self._refuse("times are missing")
        kernels = tuple(self._event(e) for e in self.items(line, "kernels", _MOST_KERNELS))
        return Timed(job, threads, at, shortest, medians, kernels)

    def _event(self, value: object) -> KernelEvent:
        if not isinstance(value, list) or len(value) != 5:
            self._refuse("a kernel has not five entries")
        name, op, us, median, _ = value
        return KernelEvent(self.text(name), self.text(op), self.number(us), self.number(median))

    def _refuse(self, message: str) -> NoReturn:
        _fail(f"the measurements are damaged: {message}", self._where)


def _fail(message: str, where: str) -> NoReturn:
    hint = "`graphopt profile --bundle FILE` makes the program that writes such a file"
    raise TargetError(message, code="G504", where=where, hint=hint) from None
