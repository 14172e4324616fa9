"""Where a command writes its model; what cannot be written is found out before any work is done."""

from __future__ import annotations

import os
from pathlib import Path


def checked_output(model: Path, output: Path | None, target: str) -> Path:
    """Return where to write.

    Args:
        model: the input, which is never overwritten.
        output: what was asked for; MODEL.TARGET.onnx when None.
        target: its name, or its file.

    Raises:
        ModelError: G208, it cannot be written there.
    """
    from graphopt.errors import ModelError

    name = Path(target).stem if target.endswith(".toml") else target.replace(":", ".")
    chosen = output or model.with_name(f"{model.stem}.{name}.onnx")
    fault, hint = None, "choose another file with `--output`"
    if chosen.is_dir():
        fault = "the output is a folder"
    elif chosen.suffix in {".json", ".html"}:
        fault = "the output is named as the report, which is written beside it"
    elif output and not chosen.parent.is_dir():
        fault, hint = "the folder of the output does not exist", "create it, or choose another"
    elif any(_same(path, model) for path in (chosen, chosen.with_suffix(".json"))):
        fault = "the output is the model itself, which is never overwritten"
    elif chosen.parent.is_dir() and not os.access(chosen.parent, os.W_OK):
        fault = "the folder of the output may not be written"
    if fault:
        raise ModelError(fault, code="G208", where=str(chosen), hint=hint)
    return chosen


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()
