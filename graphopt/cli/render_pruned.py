"""What a compile pruned, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table

if TYPE_CHECKING:
    from graphopt.report import OrderRecord, PrunedSite, PruningRecord

_ORDERS = {
    "": "quantized only",
    "prune-first": "pruned, then quantized",
    "quantize-first": "quantized, then pruned",
}
_SHOWN = 12


def pruned(record: PruningRecord | None, *, verbose: bool) -> list[str]:
    """Return what was removed to reach a goal, and what that was decided by."""
    if record is None:
        return []
    before, after = (record.amount(v) for v in (record.before, record.after))
    quantized = ", quantized" if _compares(record) else ""
    title = f"Pruned to {record.goal}: {before} to {after} ({record.source}{quantized})"
    shown = record.sites if verbose else record.sites[:_SHOWN]
    rows = [("divergence", "saved", "left", "what")]
    rows += [_row(site, record) for site in shown]
    lines = [layout.printable(title), *table(rows, right=(0, 1), width=None)]
    if len(shown) < len(record.sites):
        lines.append(f"  and {len(record.sites) - len(shown)} more; -v lists them")
    tried = f"{layout.plural(record.options, 'option')} tried on"
    facts = f"  {tried} {layout.plural(record.samples, 'sample')} that nothing was fitted to; "
    facts += f"divergence {record.predicted_divergence:.2f} predicted"
    if record.divergence is not None:
        facts += f", {record.divergence:.2f} found"
    lines += layout.wrap(facts.strip(), first="  ", rest="  ")
    return [*lines, *_orders(record)]


def _orders(record: PruningRecord) -> list[str]:
    """Return how the orders of pruning and quantizing compare."""
    if not record.orders:
        return []
    if not _compares(record):
        return [f"  order not asked: {record.orders[0].why}"]
    rows = [("divergence", record.metric, "quantized model", "")]
    rows += [_order(each, record) for each in record.orders]
    return ["", *table(rows, right=(0, 1), width=None)]


def _compares(record: PruningRecord) -> bool:
    """Whether figures are of the quantized model."""
    return bool(record.orders) and record.orders[0].figure is not None


def _order(each: OrderRecord, record: PruningRecord) -> tuple[str, str, str, str]:
    figure = "-" if each.figure is None else record.amount(each.figure)
    apart = "-" if each.divergence is None else f"{each.divergence:.3f}"
    why = f"kept: {each.why}" if each.kept else each.why
    return (apart, figure, _ORDERS.get(each.order, each.order), why)


def _row(site: PrunedSite, record: PruningRecord) -> tuple[str, str, str, str]:
    return (f"{site.divergence:.3f}", record.amount(site.saved), site.left, site.name)
