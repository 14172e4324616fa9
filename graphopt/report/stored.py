"""Reports as text that can be read again: for what is kept between runs."""

from __future__ import annotations

import dataclasses
import json
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

import graphopt.report
from graphopt.report.compiling import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from cattrs import Converter


def report_text(report: Report) -> str:
    """Return a report as JSON that ``read_report`` reads."""
    return json.dumps(dataclasses.asdict(report), sort_keys=True)


def read_report(text: str) -> Report:
    """Return the report that ``report_text`` wrote; options of passes have lists for tuples."""
    return _converter().structure(json.loads(text), Report)


@cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter()
    converter.register_structure_hook_factory(dataclasses.is_dataclass, _structure)
    return converter


def _structure(kind: type[Any], converter: Converter) -> Callable[[Any, type[Any]], Any]:
    from cattrs.gen import make_dict_structure_fn

    # Records name each other in annotations alone; where they meet is the package.
    known = {name: getattr(graphopt.report, name) for name in graphopt.report.__all__}
    hints = typing.get_type_hints(kind, localns=known)
    for field in dataclasses.fields(kind):
        field.type = hints[field.name]
    return make_dict_structure_fn(kind, converter)
