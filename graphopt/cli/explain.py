"""`graphopt explain`: an error code, a node of a report, or what couples the axes of a tensor."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command, suggest
from graphopt.cli.options import FILE, pass_settings
from graphopt.cli.render import Terminal
from graphopt.errors import CODES, GraphOptError

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings

_CODE = re.compile(r"[A-Za-z]\d{3}")


@click.command("explain", cls=Command, short_help="Explain an error code, a node or a tensor.")
@click.argument("subject", metavar="CODE|NODE|TENSOR")
@click.option("--report", type=FILE, help="Report of a compile, such as model.arm.json.")
@click.option("--model", type=FILE, help="A model: explain the axes of one of its tensors.")
@click.option("--axis", type=int, help="With --model: only this axis, from 0.")
@pass_settings
def command(
    settings: Settings, subject: str, report: Path | None, model: Path | None, axis: int | None
) -> None:
    """Explain an error code, a node of a report, or what couples the axes of a tensor.

    With --model, TENSOR is a tensor or a group that `graphopt analyze MODEL --pruning` lists: what
    each of its axes is coupled with is shown, or why it cannot be pruned.
    """
    if report is not None and model is not None:
        raise click.UsageError("`--report` and `--model` explain different things\ngive one")
    if axis is not None and model is None:
        raise click.UsageError("`--axis` is of a tensor\nsay of which model: --model MODEL")
    terminal = Terminal(settings)
    if model is not None:
        _tensor(settings, subject, model, axis)
        return
    from graphopt.cli.render_explain import code_page, node_page

    found = _code(subject) if report is None else _node(subject, report)
    page = code_page if report is None else node_page
    terminal.show(found, lambda: page(found))


def _tensor(settings: Settings, name: str, model: Path, axis: int | None) -> None:
    from graphopt.api.prunable import explain_tensor
    from graphopt.cli.render_explain import tensor_page

    found = explain_tensor(model, name, axis=axis, registry=settings.registry)
    verbose = settings.verbose > 0
    Terminal(settings).show(found, lambda: tensor_page(found, verbose=verbose))


def _code(subject: str) -> dict[str, Any]:
    from graphopt.cli.error_pages import PAGES

    code = subject.upper()
    if code in CODES:
        cause, remedy = PAGES.get(code, ("", ""))
        return {"code": code, "title": CODES[code], "cause": cause, "remedy": remedy}
    if _CODE.fullmatch(subject):
        raise GraphOptError(
            f"there is no error code `{subject}`", code="G108", hint=suggest(code, CODES)
        )
    raise GraphOptError(
        f"`{subject}` is not an error code",
        code="G108",
        hint=f"for a node: graphopt explain {subject} --report MODEL.TARGET.json; "
        f"for a tensor: graphopt explain {subject} --model MODEL",
    )


def _node(node: str, path: Path) -> dict[str, Any]:
    report = _read(path)
    operators = [o for o in _rows(report, "operators") if o.get("node") == node]
    reasons = [e for e in _rows(report, "explanations") if e.get("node") == node]
    if not operators and not reasons:
        both = (*_rows(report, "operators"), *_rows(report, "explanations"))
        known = {str(row.get("node")) for row in both}
        raise GraphOptError(
            f"the report says nothing of a node `{node}`",
            code="G108",
            where=str(path),
            hint=suggest(node, known),
        )
    return {"node": node, "operators": operators, "explanations": reasons}


def _read(path: Path) -> dict[str, Any]:
    hint = "give the .json file that `graphopt compile` wrote beside the model"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot read the report: {error.strerror}"
        raise GraphOptError(reason, code="G108", where=str(path), hint=hint) from error
    except (ValueError, RecursionError) as error:
        text = "the report is not JSON"
        raise GraphOptError(text, code="G108", where=str(path), hint=hint) from error
    if not isinstance(report, dict) or "explanations" not in report:
        text = "the file is not a report of graphopt"
        raise GraphOptError(text, code="G108", where=str(path), hint=hint)
    return report


def _rows(report: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = report.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
