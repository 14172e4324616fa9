"""Whether what a page is made with is installed."""

from __future__ import annotations

from importlib.util import find_spec

from graphopt.errors import GraphOptError

_NEEDED = ("jinja2", "matplotlib")


def check_available() -> None:
    """Raise GraphOptError G110 where a page could not be made; imports nothing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise GraphOptError(
            f"a page is made with {' and '.join(missing)}, not installed here",
            code="G110",
            where="--html",
            hint='pip install "graphopt[html]"',
        )
