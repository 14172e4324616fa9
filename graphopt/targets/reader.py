"""TOML files to targets: strict about keys, types and ranges, with the place in every error."""

from __future__ import annotations

import dataclasses
import difflib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from graphopt.errors import TargetError
from graphopt.targets.base import Target
from graphopt.targets.inheritance import DATA, with_base

if TYPE_CHECKING:
    from cattrs import Converter

_LAYOUTS = ("plain", "blocked", "channels_last")


def read_target(path: str | Path) -> Target:
    """Return the target that a TOML file describes, or a JSON file that ``graphopt profile`` wrote.

    Raises:
        TargetError: G502, the file is unreadable, has an unknown or missing key, or a value of the
            wrong type or range; ``where`` is the file and the key.
    """
    file = Path(path)
    if file.suffix == ".json":
        from graphopt.targets.profile_file import profiled_target

        return profiled_target(file)
    target = _structure(with_base(_parse(file), file), file)
    _check(target, file)
    if target.runtime.endswith(".toml"):
        target = dataclasses.replace(target, runtime=str(file.parent / target.runtime))
    return target


@cache
def builtin_targets() -> tuple[Target, ...]:
    """Return the targets that are shipped as files, by name; read once."""
    found = (builtin_target(path.stem) for path in sorted(DATA.glob("*.toml")))
    return tuple(target for target in found if target is not None)


@cache
def builtin_target(name: str) -> Target | None:
    """Return the shipped target of that name, whose file is called as it is; None without one."""
    file = DATA / f"{name}.toml"
    known = file.name in {path.name for path in DATA.glob("*.toml")}
    return read_target(file) if known else None


def _parse(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        _fail(f"the target file cannot be read: {error.strerror}", str(file), "check the path")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _fail(f"not valid TOML: {error}", str(file), "see https://toml.io")


def _structure(table: dict[str, Any], file: Path) -> Target:
    from cattrs.errors import BaseValidationError

    _reject_unknown(table, file)
    try:
        return strict_converter().structure(table, Target)
    except BaseValidationError as error:
        key, reason = first_fault(error)
        missing = isinstance(reason, KeyError)
        fault = f"`{reason.args[0]}` is missing" if missing else f"`{key}` {reason}"
        hint = "see `Target` in graphopt.targets for the keys and their types"
        _fail(fault, f"{file}: {key}" if key else str(file), hint)


@cache
def strict_converter() -> Converter:
    """Return a converter that does not coerce: a text is never a number."""
    from cattrs import Converter

    def exactly(kind: type, *, accepts: tuple[type, ...]) -> None:
        def hook(value: Any, _: Any) -> Any:
            if type(value) not in accepts:
                raise TypeError(f"must be of type {kind.__name__}, not {type(value).__name__}")
            return kind(value)

        converter.register_structure_hook(kind, hook)

    converter = Converter()
    exactly(float, accepts=(int, float))
    exactly(int, accepts=(int,))
    exactly(str, accepts=(str,))
    exactly(bool, accepts=(bool,))
    return converter


def _reject_unknown(table: dict[str, Any], file: Path) -> None:
    """Raise for the first key that is no field, at the top or in a section."""
    sections = {"quantization", "compute", "memory", "energy"}
    _reject_keys(table, Target, "", file)
    for name in sorted(sections & table.keys()):
        if not isinstance(table[name], dict):
            _fail(f"`{name}` must be a table", f"{file}: {name}", f"write it as `[{name}]`")
        _reject_keys(table[name], _section(name), f"{name}.", file)


def _section(name: str) -> type[Any]:
    from graphopt.targets import base

    kinds: dict[str, type[Any]] = {
        "quantization": base.QuantizationRules,
        "compute": base.Compute,
        "memory": base.Memory,
        "energy": base.Energy,
    }
    return kinds[name]


def _reject_keys(table: dict[str, Any], kind: type[Any], prefix: str, file: Path) -> None:
    known = [f.name for f in dataclasses.fields(kind) if f.name != "profile"]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            guess = f"did you mean `{close[0]}`? " if close else ""
            _fail(
                f"a target has no key `{prefix}{key}`",
                f"{file}: {prefix}{key}",
                f"{guess}known keys: {', '.join(known)}",
            )


def first_fault(error: BaseException) -> tuple[str, Exception]:
    """Return the dotted key and the cause of the first thing that cattrs could not take."""
    keys: list[str] = []
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
        notes = getattr(cause, "__notes__", ())
        keys.extend(str(getattr(note, "name", getattr(note, "index", note))) for note in notes)
    return ".".join(keys), cause if isinstance(cause, Exception) else ValueError(str(cause))


def _check(target: Target, file: Path) -> None:
    """Raise for the first value out of its range."""
    compute, memory = target.compute, target.memory
    rates = {f"compute.macs_per_cycle.{k}": v for k, v in compute.macs_per_cycle.items()}
    rates |= {f"compute.efficiency.{k}": v for k, v in compute.efficiency.items()}
    rates |= {f"compute.alignment.{k}": v for k, v in compute.alignment.items()}
    gains = target.quantization.expected_gain
    rates |= {f"quantization.expected_gain.{k}": v for k, v in gains.items()}
    rates |= {f"memory.levels_bytes.{i}": v for i, v in enumerate(memory.levels_bytes)}
    rates |= {
        "compute.frequency_ghz": compute.frequency_ghz,
        "compute.cores": compute.cores,
        "memory.cache_bytes": memory.cache_bytes,
        "memory.cache_gb_s": memory.cache_gb_s,
        "memory.dram_gb_s": memory.dram_gb_s,
        "uncertainty": target.uncertainty,
    }
    for key, value in rates.items():
        if not value > 0:
            _fail(f"`{key}` is {value}", f"{file}: {key}", "it must be above 0")
    if target.uncertainty >= 1:
        _fail(f"`uncertainty` is {target.uncertainty}", f"{file}: uncertainty", "use 0.3 for 30 %")
    if "float32" not in compute.macs_per_cycle:
        place = f"{file}: compute.macs_per_cycle"
        _fail("`compute.macs_per_cycle` has no `float32`", place, "every target needs it")
    for dtype, layout in compute.layouts.items():
        if layout not in _LAYOUTS:
            place = f"{file}: compute.layouts.{dtype}"
            _fail(f"unknown layout `{layout}`", place, f"one of: {', '.join(_LAYOUTS)}")


def _fail(message: str, where: str, hint: str) -> NoReturn:
    raise TargetError(message, code="G502", where=where, hint=hint) from None
