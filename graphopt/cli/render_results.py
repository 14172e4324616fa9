"""What inspect, bench and diff print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table
from graphopt.cli.render_bisection import bisection_lines

if TYPE_CHECKING:
    from graphopt.report import BenchResult, DiffResult, ModelSummary, PortFacts


def model_summary(summary: ModelSummary) -> list[str]:
    """Return a model in numbers, its ports, its operators and its weights."""
    facts = summary.facts
    rows = [
        ("nodes", f"{facts.nodes:,}"),
        ("parameters", f"{facts.parameters:,}"),
        ("size", layout.size(facts.size_bytes)),
        ("opset", str(facts.opset)),
        ("digest", facts.digest),
    ]
    lines = [layout.printable(facts.path), *layout.columns(rows, width=None), ""]
    ports = [_port("input", p) for p in summary.inputs]
    ports += [_port("output", p) for p in summary.outputs]
    lines += layout.columns(ports, width=None)
    by_count = sorted(summary.operators.items(), key=lambda item: (-item[1], item[0]))
    counts = [("operator", "nodes"), *((op, f"{n:,}") for op, n in by_count)]
    lines += ["", *table(counts, right=(1,), width=None)]
    if summary.weights:
        by_size = sorted(summary.weights.items(), key=lambda item: (-item[1], item[0]))
        weights = [("weights", "size"), *((name, layout.size(n)) for name, n in by_size)]
        lines += ["", *table(weights, right=(1,), width=None)]
    return lines


def _port(kind: str, port: PortFacts) -> tuple[str, str, str, str]:
    return (kind, port.name, port.dtype, layout.shape(port.shape))


def bench_table(result: BenchResult) -> list[str]:
    """Return medians, and the speed of the model against the other one."""
    rows = [(result.model, layout.quantity(result.ms_a, "ms"))]
    if result.against is not None:
        rows.append((result.against, layout.quantity(result.ms_b, "ms")))
    lines = layout.columns(rows, right=(1,), width=None)
    if result.ratio is not None:
        bounds = ""
        if result.low is not None and result.high is not None:
            bounds = f" ({result.low:.2f} to {result.high:.2f} x)"
        lines.append(f"  speed {result.ratio:.2f} x{bounds} of `{result.against}`")
    runs = layout.plural(result.runs, "run")
    threads = layout.plural(result.threads, "thread")
    return lines + layout.wrap(f"measured, medians of {runs}, {threads}; {result.basis}")


def diff_table(result: DiffResult) -> list[str]:
    """Return how far the outputs are apart, and what is built differently."""
    rows = [("output", "max |error|", "relative", "SNR")]
    rows += [
        (
            o.name,
            layout.digits(o.max_abs),
            layout.digits(o.max_rel),
            "equal" if o.max_abs == 0 else layout.quantity(o.snr_db, "dB"),
        )
        for o in result.outputs
    ]
    lines = table(rows, right=(1, 2, 3), width=None)
    lines += layout.wrap(f"measured on {layout.plural(result.samples, 'sample')}; {result.basis}")
    lines += ["", "structure:" if result.structural else "structure: no difference"]
    for difference in result.structural:
        lines += layout.wrap(difference, first="  ", rest="    ")
    return lines if result.bisection is None else lines + bisection_lines(result.bisection)
