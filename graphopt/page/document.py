"""The records of a compile and of a search, as one HTML document."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from graphopt.page.available import check_available
from graphopt.page.contents import contents
from graphopt.page.words import shortened

if TYPE_CHECKING:
    from jinja2 import Environment

    from graphopt.report import Report, SearchRecord

_CELL, _TEXT = 160, 2000
"""Characters that are shown of a name or a reason in a table, and of any other text."""


def page(report: Report, search: SearchRecord | None = None) -> str:
    """Return a page that tells what the records say; the same records give the same text.

    It reads nothing from outside, runs no script, and forbids the browser both. What comes from a
    model or from the user is escaped wherever it is written. What is too long to read is shortened,
    and the page says so: the records have the rest.

    Raises:
        GraphOptError: G110, what a page is made with is not installed.
    """
    check_available()
    return _environment().get_template("page.html.j2").render(contents(report, search))


def _bounded(value: object) -> object:
    """Shorten a text that comes from a model; what is safe was made here, and is left whole."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return shortened(str(value), _TEXT) if is_text else value


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("graphopt.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_bounded,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["short"] = lambda text: shortened(text, _CELL)
    style = (files("graphopt.page") / "templates" / "page.css").read_text("utf-8")
    # Ours, and without a `<` in it.
    made.globals["style"] = Markup(style)  # noqa: S704
    return made
