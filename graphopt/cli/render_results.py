"""What inspect, estimate, bench and diff print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.base import Estimate, KernelCost
    from graphopt.report import BenchResult, DiffResult, ModelSummary, PortFacts
    from graphopt.types import Figure

_COSTLIEST = 10
"""So many kernels are listed without -v."""


def _table(rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None) -> list[str]:
    head, *body = layout.columns(rows, right=right, width=width)
    return [heading(head), *body]


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
    lines += ["", *_table(counts, (1,), None)]
    if summary.weights:
        by_size = sorted(summary.weights.items(), key=lambda item: (-item[1], item[0]))
        weights = [("weights", "size"), *((name, layout.size(n)) for name, n in by_size)]
        lines += ["", *_table(weights, (1,), None)]
    return lines


def _port(kind: str, port: PortFacts) -> tuple[str, str, str, str]:
    return (kind, port.name, port.dtype, layout.shape(port.shape))


def estimate_table(
    estimate: Estimate, target: str, *, verbose: bool, width: int | None
) -> list[str]:
    """Return the cost of one inference, and the kernels that it goes to."""
    latency = estimate.latency_ms
    rows = [
        ("latency", layout.quantity(latency.value, "ms"), _interval(latency, "ms")),
        (
            "peak activations",
            layout.size(estimate.peak_activation_bytes),
            f"at `{estimate.peak_at}`",
        ),
        ("weights", layout.size(estimate.weight_bytes), ""),
        ("file", layout.size(estimate.size_bytes), ""),
    ]
    if estimate.energy_mj is not None:
        energy = layout.quantity(estimate.energy_mj.value, "mJ")
        rows.append(("energy", energy, _interval(estimate.energy_mj, "mJ")))
    rows.append(("multiply-accumulates", layout.count(estimate.macs).strip(), ""))
    lines = [f"One inference on {target}, batch 1"]
    lines += layout.columns(rows, right=(1,))
    return [*lines, "", *_kernels(estimate.kernels, verbose=verbose, width=width)]


def _interval(figure: Figure, unit: str) -> str:
    return f"{figure.source}, {layout.interval(figure.low, figure.high, unit)}; {figure.basis}"


def _kernels(kernels: Sequence[KernelCost], *, verbose: bool, width: int | None) -> list[str]:
    ordered = sorted(kernels, key=lambda k: -k.latency_us)
    shown = ordered if verbose else ordered[:_COSTLIEST]
    total = sum(k.latency_us for k in kernels) or 1.0
    rows = [("us", "share", "kernel", "type", "nodes")]
    rows += [
        (
            layout.digits(k.latency_us),
            f"{100 * k.latency_us / total:.0f} %",
            k.kernel,
            k.dtype,
            _nodes(k.nodes),
        )
        for k in shown
    ]
    lines = _table(rows, (0, 1), width)
    if len(shown) < len(ordered):
        rest = sum(k.latency_us for k in ordered[_COSTLIEST:])
        left = layout.plural(len(ordered) - len(shown), "more kernel")
        lines.append(f"  {left}, {100 * rest / total:.0f} %; -v lists all")
    return lines


def _nodes(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more" if nodes else ""


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
    lines = _table(rows, (1, 2, 3), None)
    lines += layout.wrap(f"measured on {layout.plural(result.samples, 'sample')}; {result.basis}")
    if not result.structural:
        return [*lines, "", "structure: no difference"]
    lines += ["", "structure:"]
    for difference in result.structural:
        lines += layout.wrap(difference, first="  ", rest="    ")
    return lines
