"""The plots of a search: accuracy against latency and against size, every model a mark."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from graphopt.page.svg import COLOURS, inline
from graphopt.report.quantities import interval, quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from graphopt.report import PointRecord, ScoreRecord, SearchRecord

SHOWN = 300
_WIDTH, _HEIGHT = 5.2, 3.6
"""Inches of 72 points: a page of a phone shows a point as about one pixel."""

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "axes.edgecolor": COLOURS["--muted"],
    "axes.labelcolor": COLOURS["--fg"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": COLOURS["--line"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["--fg"],
    "xtick.color": COLOURS["--muted"],
    "ytick.color": COLOURS["--muted"],
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot, and what it shows in words."""

    title: str
    image: Markup
    caption: str


@dataclass(frozen=True)
class _Mark:
    """How one model is drawn."""

    point: PointRecord
    score: ScoreRecord
    x: float
    kind: str

    @property
    def title(self) -> str:
        """What is shown when the pointer rests on it."""
        unit = self.score.unit
        facts = [
            f"{self.point.label}: {self.kind if self.kind in _OWN else self.point.status}",
            f"{quantity(self.score.value, unit)} ({interval(self.score.low, self.score.high, '')})",
            f"{quantity(self.point.latency_ms, 'ms')} {self.point.latency_source}",
            quantity(self.point.size_bytes, "bytes"),
        ]
        return ", ".join(facts)


_OWN = frozenset({"chosen", "original"})
_KINDS: dict[str, tuple[str, str, float]] = {
    "chosen": ("*", "--chosen", 15.0),
    "original": ("D", "--fg", 7.0),
    "front": ("o", "--accent", 7.5),
    "dominated": ("o", "--muted", 4.5),
    "failed the limits": ("x", "--bad", 5.0),
}
"""Marker, colour and size of each kind of model, the most important first."""


def fronts(search: SearchRecord | None) -> list[Plot]:
    """Return a plot for each quantity that at least two models of the search are known by."""
    if search is None:
        return []
    axes: list[tuple[str, str, Callable[[PointRecord], float | None]]] = [
        ("latency", "latency, ms", lambda p: p.latency_ms),
        ("size", "size, MiB", lambda p: p.size_bytes and p.size_bytes / 2**20),
    ]
    plots = []
    for name, label, value in axes:
        marks = list(_marks(search, value))
        if len(marks) > 1:
            plots.append(_plot(name, label, marks))
    return plots


def _marks(search: SearchRecord, value: Callable[[PointRecord], float | None]) -> Iterator[_Mark]:
    for point in (search.original, *search.points[:SHOWN]):
        x = value(point)
        if point.score is None or x is None or not math.isfinite(x + point.score.value):
            continue
        yield _Mark(point, point.score, x, _kind(point, point is search.original))


def _kind(point: PointRecord, is_original: bool) -> str:
    if point.chosen:
        return "chosen"
    if is_original:
        return "original"
    return point.status if point.status in _KINDS else "failed the limits"


def _plot(name: str, label: str, marks: Sequence[_Mark]) -> Plot:
    title = f"Accuracy against {name}"
    score = marks[0].score
    with _drawing(name) as (figure, axes):
        axes.set_xlabel(label)
        axes.set_ylabel(f"{score.metric}, {score.unit}" if score.unit else score.metric)
        axes.grid(visible=True)
        _draw_front(axes, marks)
        for index, mark in enumerate(marks):
            _draw(axes, index, mark)
        axes.margins(0.06)
        image = _written(figure)
    titles = {f"mark-{i}": mark.title for i, mark in enumerate(marks)}
    return Plot(title, inline(image, f"front-{name}", title, titles), _caption(marks))


@contextmanager
def _drawing(name: str) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure and its axes, without pyplot, which would keep them and want a display."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {**_STYLE, "svg.hashsalt": name}
    with rc_context(settings):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield figure, axes


def _written(figure: Figure) -> bytes:
    written = BytesIO()
    nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=nothing)
    return written.getvalue()


def _draw_front(axes: Axes, marks: Sequence[_Mark]) -> None:
    """Draw the front as steps: what accuracy is to be had up to each latency or size."""
    on_it = [m for m in marks if m.point.status == "front" or m.kind == "chosen"]
    best: list[_Mark] = []
    for mark in sorted(on_it, key=lambda m: (m.x, -m.score.value)):
        if not best or mark.score.value > best[-1].score.value:
            best.append(mark)
    if len(best) > 1:
        axes.plot(
            [m.x for m in best],
            [m.score.value for m in best],
            drawstyle="steps-post",
            color=COLOURS["--accent"],
            linewidth=1.2,
            zorder=1,
        )


def _draw(axes: Axes, index: int, mark: _Mark) -> None:
    marker, colour, size = _KINDS[mark.kind]
    level = len(_KINDS) - list(_KINDS).index(mark.kind) + 2
    score = mark.score
    if mark.kind in {"chosen", "original", "front"}:
        axes.plot(
            [mark.x, mark.x],
            [score.low, score.high],
            color=COLOURS[colour],
            linewidth=1.0,
            alpha=0.55,
            zorder=level - 0.5,
            solid_capstyle="butt",
        )
    axes.plot(
        [mark.x],
        [score.value],
        marker=marker,
        markersize=size,
        color=COLOURS[colour],
        markeredgewidth=1.4 if marker == "x" else 0.0,
        linestyle="none",
        zorder=level,
        gid=f"mark-{index}",
    )


def _caption(marks: Sequence[_Mark]) -> str:
    samples = max(m.score.samples for m in marks)
    sources = sorted({m.point.latency_source for m in marks})
    return (
        f"{len(marks)} models on {samples:,} validation samples at most; bars are 95 % intervals; "
        f"latency {' or '.join(sources)}."
    )
