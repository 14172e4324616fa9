"""A table of whole-model measurements to a device profile: a device that cannot be at hand."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from graphopt.api.source import read_model
from graphopt.cost.kernels import group_kernels
from graphopt.cost.layout import in_execution_order
from graphopt.cost.shapes import sized
from graphopt.cost.signature import Signature, signature_of
from graphopt.cost.transfer import MINIMUM_MODELS, Measured, transfer
from graphopt.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.targets.base import Target
    from graphopt.targets.profile import DeviceProfile

_NEEDED = ("model", "ms")
_KNOWN = (*_NEEDED, "threads")
_EXAMPLE = "the first line is `model,ms` or `model,ms,threads`, then one line per model"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        model: path of the model, relative to the table's folder.
        milliseconds: one inference.
        threads: that it was measured with.
        where: file and line.
    """

    model: Path
    milliseconds: float
    threads: int
    where: str


def transfer_profile(
    path: Path | str,
    base: Target,
    *,
    profile: DeviceProfile | None = None,
    device: str = "",
    runtime: str = "",
) -> DeviceProfile:
    """Return the profile of a device of which a few whole models were measured.

    Args:
        path: CSV table with the columns model, ms and, where it is not 1, threads.
        base: target whose rules the device follows, and whose peaks are the prior.
        profile: profile of a measured device to take as the prior instead.
        device: its name; the table's name when empty.
        runtime: name and version of what executed the models.

    Raises:
        TargetError: G506, the table cannot be used; ``where`` is the file and line.
        ModelError: G201 to G209, a model cannot be read.
    """
    file = Path(path)
    content = _read(file)
    rows = read_table(content, file)
    measured = [
        Measured(row.model.name, _signatures(row.model, base), row.milliseconds) for row in rows
    ]
    for row, model in zip(rows, measured, strict=True):
        if not model.kernels:
            _fail("the model executes nothing", row.where, "measure one that computes something")
    return transfer(
        measured,
        base,
        profile=profile,
        device=device or file.stem,
        runtime=runtime or "a runtime that is not stated",
        threads=rows[0].threads,
        digest=hashlib.sha256(content).hexdigest(),
    )


def read_table(content: bytes, file: Path) -> tuple[Row, ...]:
    """Return the rows of a table; model paths are relative to the folder of ``file``.

    Raises:
        TargetError: G506.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        _fail("the table is not UTF-8 text", str(file), _EXAMPLE)
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        _check_header(reader.fieldnames, file)
        rows = tuple(_row(line, file, reader.line_num) for line in reader)
    except csv.Error as error:
        _fail(f"the table is not CSV: {error}", str(file), _EXAMPLE)
    _check_rows(rows, file)
    return rows


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        _fail(f"the table cannot be read: {error.strerror}", str(file), "check the path")


def _check_header(names: object, file: Path) -> None:
    header = [str(name) for name in names] if isinstance(names, list | tuple) else []
    missing = [name for name in _NEEDED if name not in header]
    strange = [name for name in header if name not in _KNOWN]
    if missing:
        _fail(f"the table has no column `{missing[0]}`", f"{file}:1", _EXAMPLE)
    if strange:
        _fail(f"unknown column `{strange[0]}`", f"{file}:1", _EXAMPLE)


def _row(line: Mapping[str | None, object], file: Path, number: int) -> Row:
    where = f"{file}:{number}"
    name = str(line.get("model") or "").strip()
    if not name or line.get(None):
        _fail("the line does not have one field per column", where, _EXAMPLE)
    return Row(
        model=file.parent / name,
        milliseconds=_milliseconds(str(line.get("ms") or ""), where),
        threads=_threads(str(line.get("threads") or "1"), where),
        where=where,
    )


def _milliseconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        _fail(f"`{text}` is not a time", where, "milliseconds of one inference, above 0")
    return value


def _threads(text: str, where: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        _fail(f"`{text}` is not a number of threads", where, "a whole number from 1 on")
    return int(text)


def _check_rows(rows: tuple[Row, ...], file: Path) -> None:
    different = {row.model for row in rows}
    if len(different) < MINIMUM_MODELS:
        _fail(
            f"the table measures {len(different)} different models",
            str(file),
            f"measure at least {MINIMUM_MODELS}, of different kinds: 5 to 10 are better",
        )
    other = next((row for row in rows if row.threads != rows[0].threads), None)
    if other is not None:
        _fail(
            f"{other.threads} threads here, {rows[0].threads} before",
            other.where,
            "a profile is for one number of threads: write one table for each",
        )


def _signatures(path: Path, base: Target) -> tuple[Signature, ...]:
    """Return what ``base`` executes for a model; open sizes are those that estimates assume."""
    graph, _ = read_model(path)
    known, _ = sized(graph, {})
    kernels = in_execution_order(group_kernels(known, base), base)
    return tuple(signature_of(kernel) for kernel in kernels)


def _fail(message: str, where: str, hint: str) -> NoReturn:
    raise TargetError(message, code="G506", where=where, hint=hint) from None
