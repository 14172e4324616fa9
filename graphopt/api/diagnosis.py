"""Why is this quantized model slow: what runs in float, why, what it costs, what can be mended."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.analysis.quantization import (
    FLOAT_CODES,
    Finding,
    Rules,
    diagnose,
    has_quantization,
    is_quantized_product,
    products_at_risk,
)
from graphopt.api.doctor_cost import finding_costs
from graphopt.api.setup import cost_model, find_target
from graphopt.api.source import read_model
from graphopt.api.timing import time_against
from graphopt.errors import ModelError
from graphopt.passes.quantize.repair_qdq import repair
from graphopt.pipeline import probe_feeds, snr_db
from graphopt.pipeline.verifier import CENSUS_LIMIT, relative_error
from graphopt.registry import Registry
from graphopt.report import OperatorRecord
from graphopt.runtime import HEAVY, Census, Session, open_sparingly, open_with_census
from graphopt.targets.fusion import fusion_table

if TYPE_CHECKING:
    from os import PathLike

    from graphopt.api.source import ModelSource
    from graphopt.api.timing import Timed
    from graphopt.ir import Graph
    from graphopt.targets.base import Target
    from graphopt.types import Figure

SEED = 0
RACE_SECONDS = 0.5
MIN_FIX_SNR_DB = 25.0
"""Outputs of the repaired model against those of the unoptimised original, in dB. Integer kernels
round some values one step away from the float operators in their place; a mistake costs more."""

_CONVERTERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class DoctorFinding(Finding):
    """A finding with its price.

    Args:
        cost_ms: estimated milliseconds of one inference; None where speed is not the matter, or
            where another finding of the operator has it.
        fixable: whether ``--fix`` mends it: the repaired model does not have it any more.
    """

    cost_ms: float | None = None
    fixable: bool = False


@dataclass(frozen=True)
class Repaired:
    """What the exact repairs come to.

    Args:
        repairs: how often each was needed.
        opens: whether the runtime opens and runs the repaired model.
        integer: heavy operators that the runtime executes in integer afterwards.
        converters: Q and DQ that are executed afterwards.
        estimated_ms: latency of one inference afterwards.
        snr_db: outputs against those of the original as its file means them (executed without
            optimisation); None where that does not run.
        max_error: max|difference| / max|reference| of the same outputs.
        measured: the original against the repaired model, timed in turns; only on the host.
        refused: why the repaired model must not be used, if so.
    """

    repairs: dict[str, int]
    opens: bool
    integer: int
    converters: int
    estimated_ms: Figure
    snr_db: float | None
    max_error: float | None
    measured: Timed | None
    refused: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All that doctor found.

    Args:
        model: its name.
        target: what it is judged for.
        quantized: whether it is quantized at all.
        failure: the runtime's words where it does not open or run the model.
        operators: how each heavy operator is executed; empty where the model does not open, and
            where it is too large for its kernels to be counted.
        converters: Q and DQ that are executed, as the runtime optimised the model.
        findings: in the order of the graph.
        estimated_ms: latency of one inference as it is.
        at_risk: products that could saturate on an x86 CPU without VNNI.
        repaired: what the repairs come to; None where there is nothing to repair.
    """

    model: str
    target: str
    quantized: bool
    failure: str | None
    operators: tuple[OperatorRecord, ...]
    converters: int
    findings: tuple[DoctorFinding, ...]
    estimated_ms: Figure
    at_risk: int
    repaired: Repaired | None
    graph: Graph | None = dataclasses.field(default=None, repr=False, compare=False)
    """The repaired graph, for ``save``."""

    def save(self, path: str | PathLike[str]) -> tuple[Path, ...]:
        """Write the repaired model; the file is complete or not touched.

        Raises:
            ModelError: G208, there is nothing to write, or the file is the input.
        """
        target, source = Path(path), Path(self.model)
        if self.graph is None or self.repaired is None or self.repaired.refused:
            raise ModelError("there is no repaired model to write", code="G208", where=str(target))
        if target.exists() and source.exists() and target.samefile(source):
            raise ModelError(
                f"`{target}` is the input, which is never overwritten",
                code="G208",
                where=str(target),
                hint="choose another name with --output",
            )
        return tuple(ir.save(self.graph, target))


def doctor(
    model: ModelSource,
    *,
    target: str = "host",
    measure: bool = True,
    registry: Registry | None = None,
) -> Diagnosis:
    """Say why a quantized model is slow or wrong on a target, and what can be repaired exactly.

    Args:
        model: a file, its bytes, or a graph; quantized by any tool, as QDQ, with quantized
            operators, or dynamically.
        target: name, alias or TOML file.
        measure: on the host, also time the model against the repaired one.
        registry: targets and cost models; built-ins and installed plugins when None.

    Raises:
        ModelError: G201 to G209, the file is no legal model.
        TargetError: G501, G502.
    """
    registry = registry or Registry()
    graph, name = read_model(model)
    return _Examination(graph, name, find_target(target, registry), registry).run(measure)


@dataclass(frozen=True)
class _Attempt:
    """A repaired copy, the findings that it still has, and how it compares."""

    graph: Graph
    repairs: dict[str, int]
    left: frozenset[tuple[str, str]]
    repaired: Repaired | None = None

    def mends(self, finding: Finding) -> bool:
        """Whether the finding is gone from the copy, and nothing unexplained is in its place."""
        gone = not {_key(finding), ("D130", finding.node)} & self.left
        return bool(self.repairs) and gone


class _Examination:
    """The state of one diagnosis."""

    def __init__(self, graph: Graph, name: str, target: Target, registry: Registry) -> None:
        self.graph = graph
        self.name = name
        self.target = target
        self.rules = Rules(fusion_table(target.runtime), target)
        self.cost = cost_model(target, registry)
        self.probes = probe_feeds(graph, [], SEED)

    def run(self, measure: bool) -> Diagnosis:
        """Open, diagnose, repair a copy, compare."""
        quantized = has_quantization(self.graph)
        session, census, failure = self._open(self.graph)
        findings = self._findings(self.graph, census) if quantized else ()
        attempt = _Attempt(self.graph, {}, frozenset())
        if quantized:
            attempt = self._repair(session, measure, widen=True)
            if attempt.repaired is not None and attempt.repaired.refused:
                attempt = self._repair(session, measure, widen=False)
        costs = finding_costs(self.graph, self.target, findings)
        return Diagnosis(
            model=self.name,
            target=self.target.name,
            quantized=quantized,
            failure=failure,
            operators=_records(self.graph, census, findings),
            converters=_converters(census),
            findings=tuple(
                DoctorFinding(
                    **dataclasses.asdict(f),
                    cost_ms=costs.get((f.code, f.node)),
                    fixable=attempt.mends(f),
                )
                for f in findings
            ),
            estimated_ms=self._estimate(self.graph),
            at_risk=products_at_risk(self.graph),
            repaired=attempt.repaired,
            graph=attempt.graph if attempt.repairs else None,
        )

    def _repair(self, session: Session | None, measure: bool, *, widen: bool) -> _Attempt:
        fixed = self.graph.copy()
        repairs = repair(fixed, self.target, widen=widen)
        if not repairs:
            return _Attempt(fixed, repairs, frozenset())
        after, census, fault = self._open(fixed)
        left = frozenset(_key(f) for f in self._findings(fixed, census))
        repaired = self._repaired(fixed, repairs, (session, after), census, fault, measure)
        return _Attempt(fixed, repairs, left, repaired)

    def _open(self, graph: Graph) -> tuple[Session | None, Census | None, str | None]:
        """Return session, census, and the runtime's words where it does not open or run it."""
        try:
            session, census = _opened(graph, self.target)
        except ModelError as error:
            return None, None, error.message
        try:
            session.run(self.probes.feeds[0])
        except ModelError as error:
            return (
                (None, census, error.message) if self._runs_plainly(graph) else (None, census, None)
            )
        return session, census, None

    def _runs_plainly(self, graph: Graph) -> bool:
        """Whether the probe inputs are good: the model takes them when nothing is fused."""
        try:
            open_sparingly(graph, optimize=False).run(self.probes.feeds[0])
        except ModelError:
            return False
        return True

    def _findings(self, graph: Graph, census: Census | None) -> tuple[Finding, ...]:
        """Return the findings by the rules, set right by what the runtime really executes."""
        known = graph.copy()
        # Where inference fails, what is known of types and shapes will have to do.
        with contextlib.suppress(ModelError):
            ir.infer_shapes(known)
        found = diagnose(known, self.rules)
        if census is None:
            return found
        integer = {e.node for e in census.heavy if e.integer}
        kept = [f for f in found if not (f.code.startswith(FLOAT_CODES) and f.node in integer)]
        explained = {f.node for f in kept}
        quantized = {n.label for n in known.walk() if n.op in HEAVY and is_quantized_product(n)}
        for each in census.heavy:
            if not each.integer and each.node in quantized - explained:
                kept += _unexplained(known, each.node)
        return tuple(kept)

    def _repaired(
        self,
        fixed: Graph,
        repairs: dict[str, int],
        sessions: tuple[Session | None, Session | None],
        census: Census | None,
        fault: str | None,
        measure: bool,
    ) -> Repaired:
        before, after = sessions
        snr, error = self._compare(after)
        timed = None
        if before is not None and after is not None and measure and self.target.is_host:
            timed = time_against(before, after, self.probes.feeds[:1], seconds=RACE_SECONDS)
        refused = f"it does not run: {fault}" if fault else None
        if snr is not None and not snr >= MIN_FIX_SNR_DB:
            refused = (
                f"its outputs are {snr:.1f} dB from the original's, limit {MIN_FIX_SNR_DB:g} dB"
            )
        return Repaired(
            repairs=repairs,
            opens=after is not None,
            integer=sum(e.integer for e in census.heavy) if census is not None else 0,
            converters=_converters(census),
            estimated_ms=self._estimate(fixed),
            snr_db=snr,
            max_error=error,
            measured=timed,
            refused=refused,
        )

    def _estimate(self, graph: Graph) -> Figure:
        return self.cost.estimate(graph, self.target).latency_ms

    def _compare(self, session: Session | None) -> tuple[float | None, float | None]:
        """Compare with what the original file means: executed without any optimisation."""
        if session is None:
            return None, None
        wanted: list[Any] = []
        found: list[Any] = []
        try:
            plain = open_sparingly(self.graph, optimize=False)
            for feed in self.probes.feeds:
                wanted += plain.run(feed)
                found += session.run(feed)
        except ModelError:
            return None, None
        return snr_db(wanted, found), relative_error(wanted, found)


def _opened(graph: Graph, target: Target) -> tuple[Session, Census | None]:
    """Open a model and count its kernels; of one too large to be written out, only the former."""
    if ir.tensor_bytes(graph) > CENSUS_LIMIT:
        return open_sparingly(graph, target=target), None
    return open_with_census(graph, target)


def _key(finding: Finding) -> tuple[str, str]:
    return finding.code, finding.node


def _unexplained(graph: Graph, label: str) -> list[Finding]:
    node = next(n for n in graph.walk() if n.op in HEAVY and n.label == label)
    if node.op == "ConvTranspose":
        return []  # no runtime has a kernel for it: what surrounds it is a finding of its own
    return [
        Finding(
            "D130",
            label,
            node.op,
            "onnxruntime executes it in float",
            "none of the rules that graphopt knows explains it",
            "report the model: a rule is missing",
        )
    ]


def _records(
    graph: Graph, census: Census | None, findings: tuple[Finding, ...]
) -> tuple[OperatorRecord, ...]:
    """Return how each heavy operator is executed, with what keeps it in float."""
    if census is None:
        return ()
    reasons: dict[str, str] = {}
    for each in findings:
        if each.code.startswith(FLOAT_CODES):
            reasons.setdefault(each.node, f"{each.code}: {each.what}")
    quantized = {n.label for n in graph.walk() if n.op in HEAVY and is_quantized_product(n)}
    records = []
    for found in census.heavy:
        reason = found.why or reasons.get(found.node)
        if reason is None and found.node not in quantized:
            reason = "not quantized"
        kept = None if found.integer else reason
        records.append(OperatorRecord(found.node, found.op, found.arithmetic, found.kernel, kept))
    return tuple(records)


def _converters(census: Census | None) -> int:
    if census is None:
        return 0
    counts: Counter[str] = Counter()
    for kernel, count in census.kernels.items():
        counts[kernel.rpartition(".")[2]] += count
    return sum(counts[op] for op in _CONVERTERS)
