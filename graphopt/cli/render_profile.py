"""What profile prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import heading, table

if TYPE_CHECKING:
    from graphopt.api.profiling import Profiled
    from graphopt.targets.profile import DeviceProfile

_STEADY = 0.03


def profile_page(result: Profiled, *, verbose: bool) -> list[str]:
    """Return the device, how steady it was, how exact estimates are, and where the profile is."""
    made = result.profile
    rows = [
        ("base", made.base),
        ("runtime", made.runtime),
        ("threads", ", ".join(str(n) for n in result.threads)),
        ("governor", made.governor or "not told"),
        ("measured", _measured(result)),
        ("clock", _clock(result.spread)),
        ("whole models", f"90 % of times within {_span(made.low, made.high)} of the estimate"),
    ]
    lines = [heading(layout.printable(made.device)), *layout.columns([r for r in rows if r[1]])]
    lines += ["", *_curves(made, verbose=verbose)]
    lines += [""] if made.notes else []
    for note in made.notes:
        lines += layout.wrap(note, first="note: ", rest="      ")
    return [*lines, "", *_places(result)]


def _measured(result: Profiled) -> str:
    if not result.kernels:
        return ""
    kernels = layout.plural(result.kernels, "kernel")
    return f"{kernels}, {layout.plural(result.models, 'whole model')}"


def _clock(spread: float | None) -> str:
    if spread is None:
        return ""
    if spread <= _STEADY:
        return f"steady: one model took the same time within {spread:.1%} throughout"
    return (
        f"drifted: one model took up to {spread:.0%} longer than at its fastest; "
        "a fixed frequency and nothing else running make a better profile"
    )


def _curves(made: DeviceProfile, *, verbose: bool) -> list[str]:
    """Return one line per class of kernels: how often it was measured, how wide its interval is.

    Single operators and layouts have curves of their own, which only -v lists.
    """
    shown = {n: c for n, c in made.curves.items() if verbose or _is_class(n)}
    rows = [("kernels", "measured", "90 % of times within")]
    for name, curve in sorted(shown.items()):
        rows.append((name, f"{curve.points:,}", _span(curve.low, curve.high)))
    left = len(made.curves) - len(shown)
    more = (
        [f"  {layout.plural(left, 'finer class', 'finer classes')}; -v lists all"] if left else []
    )
    return [*table(rows, right=(1,)), *more]


def _is_class(name: str) -> bool:
    """Whether a curve is of a whole kind of kernels in one type, such as float32.conv."""
    _, _, rest = name.partition(".")
    return "." not in rest and rest == rest.lower()


def _span(low: float, high: float) -> str:
    return f"-{(1 - low) * 100:.0f} % to +{(high - 1) * 100:.0f} %"


def _places(result: Profiled) -> list[str]:
    lines = []
    if result.path is not None:
        path = layout.printable(str(result.path))
        lines.append(f"wrote {path}: a target as `--target {_shown(result)}`")
    if result.kept:
        lines.append("the target `host` uses this profile from now on")
    return lines


def _shown(result: Profiled) -> str:
    path = result.path
    assert path is not None
    return str(path) if path.is_absolute() or path.parent.name else f"./{path}"
