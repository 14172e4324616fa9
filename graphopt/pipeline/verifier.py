"""Does the graph still compute what the original computed, and does the runtime still fuse it?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.errors import GraphOptError, ModelError, PassError
from graphopt.runtime import Census, Session, open_sparingly, open_with_census

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.pipeline.probes import Probes
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

OLDEST_OPSET = 7
"""First default operator set that onnxruntime supports as a whole."""

_KEPT_OPEN = 3

CENSUS_LIMIT = 512 << 20
"""Larger models are not written out a second time only to be counted."""


def snr_db(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Return 10 log10(sum reference^2 / sum (reference - output)^2) over all values, in dB.

    Equal outputs give infinity; outputs that are not finite where the reference is give -infinity.
    """
    signal = noise = 0.0
    for expected, found in zip(reference, outputs, strict=True):
        wanted, got = _numbers(expected), _numbers(found)
        if wanted is None or got is None:
            continue
        if wanted.shape != got.shape:
            return -math.inf
        usable = np.isfinite(wanted)
        if not np.isfinite(got[usable]).all():
            return -math.inf
        signal += float(np.square(wanted[usable]).sum())
        noise += float(np.square(wanted[usable] - got[usable]).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def relative_error(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Return the largest max|difference| / max|reference| of any output; inf on other shapes."""
    worst = 0.0
    for expected, found in zip(reference, outputs, strict=True):
        wanted, got = _numbers(expected), _numbers(found)
        if wanted is None or got is None:
            if not _same(expected, found):
                return math.inf
            continue
        if wanted.shape != got.shape or not _same(np.isfinite(wanted), np.isfinite(got)):
            return math.inf
        usable = np.isfinite(wanted)
        if not usable.any():
            continue
        scale = max(float(np.abs(wanted[usable]).max()), 1e-6)
        worst = max(worst, float(np.abs(wanted[usable] - got[usable]).max()) / scale)
    return worst


def _has_signal(arrays: Sequence[Any]) -> bool:
    """Whether any value is finite and not zero: a ratio to silence is not defined."""
    found = (_numbers(a) for a in arrays)
    return any(a is not None and bool((np.isfinite(a) & (a != 0)).any()) for a in found)


def _numbers(values: Any) -> Array | None:
    array = np.asarray(values) if isinstance(values, np.ndarray) else None
    if array is None or array.dtype == object or array.dtype.kind in "USc":
        return None
    return array.astype(np.float64)


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        return bool(np.array_equal(expected, found))
    return bool(repr(expected) == repr(found))


@dataclass(frozen=True)
class ExactCheck:
    """What comparing with the original found."""

    max_error: float | None
    """None when there was no input to compare on."""
    lost: dict[str, int]
    """Fused operators that are gone."""
    census: Census | None = None
    """What the runtime executes now; later passes are compared with it once it is accepted."""


def _too_old(original: Graph, error: ModelError) -> ModelError:
    """Say that the opset is the reason, where it probably is."""
    if error.code != "G207" or original.opset >= OLDEST_OPSET:
        return error
    return ModelError(
        f"the model is for opset {original.opset}; onnxruntime runs {OLDEST_OPSET} and later",
        code="G206",
        hint="export it again, or convert it with onnx.version_converter and check the result",
    )


class Verifier:
    """Holds what the original computes, and compares graphs with it."""

    def __init__(
        self, original: Graph, target: Target, probes: Probes, held_out: Sequence[Feed]
    ) -> None:
        self.target = target
        self.probes = probes
        self.counts = ir.tensor_bytes(original) <= CENSUS_LIMIT
        self._opened: dict[str, tuple[Session, Census | None]] = {}
        try:
            self.original, self.census = self.open(original)
        except ModelError as error:
            raise _too_old(original, error) from error
        self._reference: list[tuple[Feed, list[Any]]] = []
        self.unusable: str | None = None
        for feed in probes.feeds:
            self._remember(feed)
        self.held_out = [(feed, self.original.run(feed)) for feed in held_out]

    def _remember(self, feed: Feed) -> None:
        try:
            self._reference.append((feed, self.original.run(feed)))
        except ModelError as error:
            # The model does not take this shape at all, so there is nothing to preserve for it.
            self.unusable = error.message

    def take_as_reference(self, graph: Graph) -> None:
        """Compare what follows with ``graph``: units are gone on purpose, nothing else shall be.

        Timing is still against the original, ``original``.
        """
        session, self.census = self.open(graph)
        self._reference = [(feed, session.run(feed)) for feed, _ in self._reference]
        self.held_out = [(feed, session.run(feed)) for feed, _ in self.held_out]

    @property
    def has_probes(self) -> bool:
        """Whether the original runs on any of the probe inputs."""
        return bool(self._reference)

    def open(self, graph: Graph) -> tuple[Session, Census | None]:
        """Open a graph on this machine as the target would run it, and count its kernels.

        The last few are kept open: what was checked is asked for again to be timed and reported.
        """
        key = ir.structural_hash(graph)
        if key not in self._opened:
            while len(self._opened) >= _KEPT_OPEN:
                del self._opened[next(iter(self._opened))]
            self._opened[key] = (
                open_with_census(graph, self.target)
                if self.counts
                else (open_sparingly(graph, target=self.target), None)
            )
        return self._opened[key]

    def check_exact(self, graph: Graph) -> ExactCheck:
        """Compare outputs with the original's on the probes, kernels with those accepted last."""
        session, census = self.open(graph)
        lost = self.census.lost(census) if self.census and census else {}
        if not self._reference:
            return ExactCheck(None, lost, census)
        errors = [relative_error(wanted, session.run(feed)) for feed, wanted in self._reference]
        return ExactCheck(max(errors), lost, census)

    def snr(self, session: Session, limit: int | None = None) -> float | None:
        """Return the signal-to-noise ratio against the original on held-out samples, in dB.

        That of the worst output: a loud one, such as a state, says nothing about a quiet one.
        """
        pairs = self.held_out[:limit] or self._reference
        if not pairs:
            return None
        wanted = [outputs for _, outputs in pairs]
        found = [session.run(feed) for feed, _ in pairs]
        ratios = [
            snr_db(one, other)
            for one, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True)
            if _has_signal(one)
        ]
        return min(ratios, default=math.inf)

    def demand_exact(self, check: ExactCheck, limit: float, name: str) -> None:
        """Raise PassError G303 or G304 when an exact pass was not."""
        if check.max_error is not None and not check.max_error <= limit:
            raise PassError(
                f"`{name}` changed the outputs: relative error {check.max_error:.2g}, "
                f"limit {limit:.2g}",
                code="G303",
            )
        if check.lost:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(check.lost.items()))
            raise PassError(f"`{name}` lost fused operators: {kinds}", code="G304")

    def demand_snr(self, found: float | None, limit: float, name: str) -> None:
        """Raise PassError G306 when an approximate pass cost too much."""
        if found is not None and not found >= limit:
            raise PassError(
                f"`{name}` left a signal-to-noise ratio of {found:.1f} dB, limit {limit:g} dB",
                code="G306",
                hint="more or more typical calibration data, or --set limits.min-snr-db=…",
            )


def as_pass_error(error: Exception, name: str, provider: str) -> GraphOptError:
    """Name the pass and who ships it in whatever went wrong inside it."""
    if isinstance(error, GraphOptError):
        error.where = error.where or f"pass `{name}` ({provider})"
        return error
    wrapped = PassError(
        f"`{name}` failed: {type(error).__name__}: {error}",
        code="G301",
        where=f"pass `{name}` ({provider})",
        hint="a pass must not raise; report this to whoever ships it",
    )
    wrapped.__cause__ = error
    return wrapped
