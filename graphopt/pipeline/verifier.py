"""Does the graph still compute what the original computed, and does the runtime still fuse it?"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import GraphOptError, ModelError, PassError
from graphopt.pipeline.ahead import Ahead
from graphopt.pipeline.distance import has_signal, relative_error, snr_db
from graphopt.pipeline.reference import Reference
from graphopt.report import Notice
from graphopt.runtime import INTEGER_KERNELS, Census, Session, open_sparingly, open_with_census

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.pipeline.probes import Probes
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

__all__ = ["CENSUS_LIMIT", "ExactCheck", "Verifier", "as_pass_error", "relative_error", "snr_db"]

OLDEST_OPSET = 7
"""First default operator set that onnxruntime supports as a whole."""

_KEPT_OPEN = 3

CENSUS_LIMIT = 512 << 20
"""Larger models are not written out a second time only to be counted."""


@dataclass(frozen=True)
class ExactCheck:
    """What comparing with the original found."""

    max_error: float | None
    """None when there was no output to compare."""
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
    """Holds what the original computes, and compares graphs with it.

    The reference is the original executed as it is written; graphs are executed as the target's
    runtime would. Where the runtime's own optimiser changes the results of the original, a graph
    must agree with it when both are executed as they are written.

    Args:
        original: what everything is compared with; copied, so it may change afterwards.
        target: graphs are opened with its rules.
        probes: inputs to compare exact passes on.
        held_out: real samples to compare approximate passes on.
        timed: whether the original will be timed too, so that it stays open.

    Raises:
        ModelError: G206, G207 or G215, the original does not run.
    """

    def __init__(
        self,
        original: Graph,
        target: Target,
        probes: Probes,
        held_out: Sequence[Feed],
        *,
        timed: bool = True,
    ) -> None:
        self.target = target
        self.counts = ir.tensor_bytes(original) <= CENSUS_LIMIT
        self._graph = original.copy()
        self._quantized = _is_quantized(original)
        self._kept_open = _KEPT_OPEN if timed else 1
        self._opened: dict[str, tuple[Session, Census | None]] = {}
        self._census: Census | None = None
        self._integer_outputs: list[list[Any]] | None = None
        # What is compared with, and timed against, is opened while passes run.
        self._begun: dict[str, Ahead[tuple[Session, Census | None]]] = {
            ir.structural_hash(self._graph): Ahead(lambda: self._counted(self._graph))
        }
        try:
            self._reference = Reference(original, self._session)
        except ModelError as error:
            self._forget_begun()
            raise _too_old(original, error) from error
        self.unusable = self._reference.take(probes)
        feeds = tuple(self._reference.feeds) or probes.feeds
        self.probes = dataclasses.replace(probes, feeds=feeds, made_up=None)
        self.held_out = self._with_outputs(held_out)
        self._reference.close()

    def _with_outputs(self, held_out: Sequence[Feed]) -> list[tuple[Feed, list[Any]]]:
        """Run the original on real samples; as it is written if its optimised form departs."""
        if not held_out:
            return []
        plainly = not self._quantized and self._reference.departs() is not None
        session = self._reference.session() if plainly else self.original
        return [(feed, session.run(feed)) for feed in held_out]

    @property
    def original(self) -> Session:
        """The original, open as the target would run it: for timing."""
        return self._session(self._graph)

    @property
    def census(self) -> Census | None:
        """What the runtime executes of the graph that was accepted last."""
        if self._census is None and self.counts:
            self._census = self.open(self._graph)[1]
            if not self._quantized:
                # While the original is open: whether the optimiser departs is asked for later.
                self._reference.departs()
        return self._census

    @census.setter
    def census(self, census: Census | None) -> None:
        self._census = census

    @property
    def notices(self) -> list[Notice]:
        """What the user should know about what was compared with."""
        hint = "`graphopt explain W304` says what that may mean"
        if not self._reference.plain:
            why = self._reference.why_not
            said = "the original does not run as it is written, so the reference is what the "
            return [Notice("W304", f"{said}runtime's optimiser makes of it: {why}", hint)]
        # Integers depart by a step of their own.
        found = self._reference.departs() if self.counts and not self._quantized else None
        if found is None:
            return []
        said = f"the runtime's optimiser changes the original's outputs (by {found:.2g}); "
        return [Notice("W304", f"{said}passes were compared with the original as written", hint)]

    def take_as_reference(self, graph: Graph) -> None:
        """Compare what follows with ``graph``: units are gone on purpose, nothing else shall be.

        Timing is still against the original, ``original``.
        """
        session, self.census = self.open(graph)
        feeds = self._reference.feeds
        self._quantized = _is_quantized(graph)
        if self._quantized:
            self._integer_outputs = [session.run(feed) for feed in feeds]
        self._reference = Reference(graph, self._session)
        for feed in feeds:
            self._reference.add(feed, self._reference.run(feed))
        self._reference.close()
        self.held_out = [(feed, session.run(feed)) for feed, _ in self.held_out]

    @property
    def has_probes(self) -> bool:
        """Whether the original runs on any of the probe inputs."""
        return bool(self._reference.feeds)

    def open(self, graph: Graph, digest: str | None = None) -> tuple[Session, Census | None]:
        """Open a graph on this machine as the target would run it, and count its kernels.

        The last few are kept open: what was checked is asked for again to be timed and reported.

        Args:
            graph: the graph.
            digest: its structural hash, where that is known.
        """
        key = digest or ir.structural_hash(graph)
        if key not in self._opened:
            while len(self._opened) >= self._kept_open:
                del self._opened[next(iter(self._opened))]
            begun = self._begun.pop(key, None)
            self._opened[key] = begun.result() if begun else self._counted(graph)
        return self._opened[key]

    def _forget_begun(self) -> None:
        while self._begun:
            self._begun.popitem()[1].finish()

    def _counted(self, graph: Graph) -> tuple[Session, Census | None]:
        if self.counts:
            try:
                return open_with_census(graph, self.target)
            except ModelError as error:
                # Of some inner graphs onnxruntime writes a model that breaks the rules of ONNX.
                if error.code != "G205":
                    raise
        return open_sparingly(graph, target=self.target), None

    def close(self) -> None:
        """Close what was kept open; whoever asks again opens it again."""
        self._forget_begun()
        self._opened.clear()
        self._reference.close()

    def count(self, graph: Graph, digest: str) -> Census | None:
        """Return what the runtime executes of a graph; it is not kept open for that."""
        found = self._opened.get(digest)
        if found is not None:
            return found[1]
        return self._counted(graph)[1] if self.counts else None

    def _session(self, graph: Graph) -> Session:
        return self.open(graph)[0]

    def check_exact(
        self, graph: Graph, limit: float = math.inf, digest: str | None = None
    ) -> ExactCheck:
        """Compare outputs with the original's on the probes, kernels with those accepted last.

        Args:
            graph: what a pass made of the original.
            limit: relative errors above it are looked at again, for what the runtime's optimiser
                and rounding have to do with them.
            digest: the graph's structural hash, where that is known.

        Raises:
            ModelError: the graph does not run.
        """
        before = self.census
        session, census = self.open(graph, digest)
        lost = before.lost(census) if before and census else {}
        replay: list[Session] = []

        def plainly() -> Session:
            if not replay:
                replay.append(open_sparingly(graph, optimize=False))
            return replay[0]

        found = (
            self._reference.error(index, session.run(feed), limit, plainly)
            for index, feed in enumerate(self._reference.feeds)
        )
        errors = [error for error in found if error is not None]
        self._reference.close()
        return ExactCheck(max(errors, default=None), lost, census)

    def snr(self, session: Session, limit: int | None = None) -> float | None:
        """Return the signal-to-noise ratio against the original on held-out samples, in dB.

        That of the worst output: a loud one, such as a state, says nothing about a quiet one.
        """
        pairs = self.held_out[:limit] or self._probed()
        if not pairs:
            return None
        wanted = [outputs for _, outputs in pairs]
        found = [session.run(feed) for feed, _ in pairs]
        ratios = [
            snr_db(one, other)
            for one, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True)
            if has_signal(one)
        ]
        return min(ratios, default=math.inf)

    def _probed(self) -> list[tuple[Feed, list[Any]]]:
        """Return the probes with outputs; those of a quantized original in its own integers."""
        feeds, wanted = self._reference.feeds, self._reference.wanted
        if self._quantized:
            if self._integer_outputs is None:
                self._integer_outputs = [self.original.run(feed) for feed in feeds]
            wanted = self._integer_outputs
        return list(zip(feeds, wanted, strict=True))

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


def _is_quantized(graph: Graph) -> bool:
    """Whether the runtime computes any of it in integers, which it does not as it is written."""
    return any(n.op in INTEGER_KERNELS or n.op == "DequantizeLinear" for n in graph.walk())


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
