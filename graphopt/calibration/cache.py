"""Statistics on disk, so that the same model, data and observer are run only once."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import tempfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.base import HistogramObserver, RangeStatistics
from graphopt.calibration.collect import Collected
from graphopt.calibration.histogram import StreamingHistogram
from graphopt.calibration.observers import DEFAULT_BINS, MAX_BINS, MinMax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from graphopt.calibration.base import Array, Dataset, Observer

_UNUSABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
    zlib.error,
)


@dataclass(frozen=True)
class StatisticsCache:
    """Statistics by (model, data, kind, version); one JSON file each, for any set of tensors.

    Of observers that read a histogram the histograms are kept, not their answer: every such
    observer, min-max too, is then answered from the same file. Of others the ranges are kept, by
    observer and options. A cache never makes a compile fail: what cannot be read is computed again,
    what cannot be written is not kept.

    Args:
        folder: where the files are; None keeps nothing.
        version: of graphopt; statistics of another version are not used.
    """

    folder: Path | None
    version: str

    def collect(
        self,
        model_hash: str,
        dataset: Dataset,
        observer: Observer,
        names: Iterable[str],
        run: Callable[[Sequence[str]], Collected],
    ) -> Collected:
        """Return the statistics of the named tensors: from the files, and ``run`` for the rest.

        Args:
            model_hash: identifies the model.
            dataset: its digest identifies the data; not asked for when nothing is kept.
            observer: chooses the ranges.
            names: the tensors.
            run: collects the statistics of some tensors with ``observer``.
        """
        wanted = list(dict.fromkeys(names))
        if self.folder is None:
            return run(wanted)
        digest = dataset.digest
        key = self.key(model_hash, digest, _kind(observer))
        known = self.load(key) or Collected({}, {})
        answer = _answer(known, observer, wanted)
        if isinstance(observer, MinMax) and _missing(answer, wanted):
            shared = self.load(self.key(model_hash, digest, f"histogram {DEFAULT_BINS}"))
            answer = _answer(shared, observer, wanted) if shared else answer
        missing = _missing(answer, wanted)
        if missing:
            found = run(missing)
            self.store(key, _merged(known, found))
            answer = _merged(answer, found)
        return answer

    def key(self, model_hash: str, data_digest: str, kind: str) -> str:
        """Return the name under which statistics of one kind are kept."""
        parts = [self.version, model_hash, data_digest, kind]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()

    def load(self, key: str) -> Collected | None:
        """Return what was stored under a key; None when there is nothing usable."""
        if self.folder is None:
            return None
        try:
            return _decode(json.loads(self._path(self.folder, key).read_text(encoding="utf-8")))
        except _UNUSABLE:
            return None

    def store(self, key: str, collected: Collected) -> None:
        """Keep the result of one run; the file appears whole or not at all."""
        if self.folder is None:
            return
        path = self._path(self.folder, key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, json.dumps(_encode(collected), allow_nan=False))

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / "statistics" / f"{key}.json"


def _write_whole(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _kind(observer: Observer) -> str:
    """Return what a run for an observer collects: observers of the same kind share it."""
    if isinstance(observer, HistogramObserver):
        return f"histogram {observer.bins}"
    return repr(observer)


def _answer(known: Collected, observer: Observer, names: Sequence[str]) -> Collected:
    """Return what ``observer`` says of those tensors that are known."""
    skipped = {name: known.skipped[name] for name in names if name in known.skipped}
    ranges = {name: known.ranges[name] for name in names if name in known.ranges}
    histograms = {name: known.histograms[name] for name in ranges if name in known.histograms}
    if isinstance(observer, HistogramObserver):
        fitting = {n: h for n, h in histograms.items() if h.bins == observer.bins}
        ranges = {name: ranges[name] for name in fitting}
        return Collected(ranges, skipped, fitting).chosen_by(observer)
    if isinstance(observer, MinMax):
        for name, found in histograms.items():
            ranges[name] = RangeStatistics(
                found.low, found.high, ranges[name].samples, observer.name
            )
    return Collected(ranges, skipped, histograms)


def _missing(answer: Collected, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in answer.ranges and name not in answer.skipped]


def _merged(first: Collected, second: Collected) -> Collected:
    return Collected(
        first.ranges | second.ranges,
        first.skipped | second.skipped,
        {**first.histograms, **second.histograms},
    )


def _encode(collected: Collected) -> dict[str, Any]:
    return {
        "ranges": {name: asdict(stats) for name, stats in collected.ranges.items()},
        "skipped": collected.skipped,
        "histograms": {
            name: {
                "low": histogram.low,
                "high": histogram.high,
                "exponent": histogram.exponent,
                "first": histogram.first,
                "bins": histogram.bins,
                "counts": _packed(histogram.counts),
            }
            for name, histogram in collected.histograms.items()
        },
    }


def _packed(counts: Array) -> str:
    return base64.b64encode(zlib.compress(counts.astype("<i8").tobytes(), 1)).decode("ascii")


def _decode(content: dict[str, Any]) -> Collected:
    """Return the statistics in a parsed file; raises ValueError, TypeError or KeyError if wrong."""
    ranges = {name: _decode_range(fields) for name, fields in content["ranges"].items()}
    skipped = {str(name): str(reason) for name, reason in content["skipped"].items()}
    histograms = {name: _decode_histogram(fields) for name, fields in content["histograms"].items()}
    if histograms and histograms.keys() != ranges.keys():
        raise ValueError("histograms are kept of all tensors or of none")
    return Collected(ranges, skipped, histograms)


def _decode_histogram(fields: dict[str, Any]) -> StreamingHistogram:
    bins = int(fields["bins"])
    if not 2 <= bins <= MAX_BINS:
        raise ValueError("not a histogram")
    packed = base64.b64decode(fields["counts"], validate=True)
    unpacked = zlib.decompressobj().decompress(packed, 8 * bins)
    counts = np.frombuffer(unpacked, dtype="<i8")
    if len(counts) != bins:
        raise ValueError("not a histogram")
    return StreamingHistogram.restore(
        counts,
        exponent=int(fields["exponent"]),
        first=int(fields["first"]),
        low=float(fields["low"]),
        high=float(fields["high"]),
    )


def _decode_range(fields: dict[str, Any]) -> RangeStatistics:
    low, high = float(fields["low"]), float(fields["high"])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError("not a range")
    return RangeStatistics(low, high, int(fields["samples"]), str(fields["observer"]))
