"""Device profiles as JSON files, and the target that such a file makes of its base."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from graphopt.errors import TargetError
from graphopt.targets.profile import DeviceProfile, KernelCurve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from graphopt.targets.base import Target

SCHEMA = 1
_LARGEST_FILE = 1 << 20
_LONGEST_TEXT = 500
_MOST_ENTRIES = 1_000
_HIGHEST_FACTOR = 100.0
_COST_MODEL = "profiled"


def profile_json(profile: DeviceProfile) -> bytes:
    """Return a profile as the bytes of its file; the same bytes for the same profile."""
    plain = dataclasses.asdict(profile)
    return (json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_profile(path: Path) -> DeviceProfile:
    """Return the profile in a JSON file.

    Raises:
        TargetError: G502, the file is unreadable or too large, has an unknown or missing key, or a
            value of the wrong type or range; ``where`` is the file and the key.
    """
    table = _parse(path)
    _reject_unknown(table, path)
    profile = _structure(table, path)
    for key, value, low, high in _ranges(profile):
        if not (math.isfinite(value) and low <= value <= high):
            _fail(f"`{key}` is {value}", f"{path}: {key}", f"it must be from {low:g} to {high:g}")
    return profile


def profiled_target(path: Path) -> Target:
    """Return the base of the profile in a JSON file with the profile attached, named by the file.

    Raises:
        TargetError: G502, as ``read_profile``, or the base is no shipped target.
    """
    from graphopt.targets.reader import builtin_targets

    profile = read_profile(path)
    bases = {target.name: target for target in builtin_targets()}
    if profile.base not in bases:
        hint = f"the shipped ones are {', '.join(sorted(bases))}"
        _fail(f"the base `{profile.base}` is no shipped target", f"{path}: base", hint)
    base = dataclasses.replace(bases[profile.base], name=path.stem, aliases=())
    return with_profile(base, profile, str(path))


def with_profile(target: Target, profile: DeviceProfile, origin: str) -> Target:
    """Return a target whose kernels are priced by what was measured.

    Args:
        target: its rules, and the peaks for what no curve covers.
        profile: the measurements.
        origin: where they are from, for the target's sources.
    """
    half = max(1.0 - profile.low, profile.high - 1.0)
    return dataclasses.replace(
        target,
        summary=f"{profile.device}, measured with {profile.runtime}, as {profile.base}",
        profile=profile,
        cost_model=_COST_MODEL,
        uncertainty=min(max(half, 0.01), 0.99),
        sources={**target.sources, "profile": f"measured: {origin}"},
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            _fail("the profile is larger than 1 MB", str(path), _HINT)
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        _fail(f"the profile cannot be read: {error.strerror}", str(path), "check the path")
    except (ValueError, RecursionError):
        _fail("the profile is not valid JSON", str(path), _HINT)
    if not isinstance(table, dict):
        _fail("the profile is not a JSON object", str(path), _HINT)
    if table.get("graphopt_measurements") is not None:
        hint = f"`graphopt profile --from {path.name} -o FILE` makes a profile of them"
        _fail("these are measurements, not yet a profile", str(path), hint)
    if table.get("schema") != SCHEMA:
        found = table.get("schema", "missing")
        _fail(f"`schema` is {found}", f"{path}: schema", f"this graphopt reads schema {SCHEMA}")
    return table


_HINT = "`graphopt profile` writes such files"


def _reject_unknown(table: dict[str, Any], path: Path) -> None:
    known = {f.name for f in dataclasses.fields(DeviceProfile)}
    for key in table:
        if key not in known:
            hint = f"known keys: {', '.join(sorted(known))}"
            _fail(f"a profile has no key `{key}`", f"{path}: {key}", hint)
    curves = table.get("curves")
    inner = {f.name for f in dataclasses.fields(KernelCurve)}
    for name, curve in curves.items() if isinstance(curves, dict) else ():
        unknown = [key for key in curve if key not in inner] if isinstance(curve, dict) else []
        if unknown:
            place = f"{path}: curves.{name}.{unknown[0]}"
            _fail(f"a curve has no key `{unknown[0]}`", place, f"known keys: {', '.join(inner)}")


def _structure(table: dict[str, Any], path: Path) -> DeviceProfile:
    from cattrs.errors import BaseValidationError

    from graphopt.targets.reader import first_fault, strict_converter

    try:
        return strict_converter().structure(table, DeviceProfile)
    except BaseValidationError as error:
        key, reason = first_fault(error)
        missing = isinstance(reason, KeyError)
        fault = f"`{reason.args[0]}` is missing" if missing else f"`{key}` {reason}"
        _fail(fault, f"{path}: {key}" if key else str(path), _HINT)


def _ranges(profile: DeviceProfile) -> Iterator[tuple[str, float, float, float]]:
    """Yield every number of a profile with its key and range."""
    yield "threads", profile.threads, 1, 4096
    yield "run_us", profile.run_us, 0.0, 1e9
    yield "grain_us", profile.grain_us, 0.0, 1e9
    yield "keep_us", profile.keep_us, 0.0, 1e12
    yield "low", profile.low, 0.0, 1.0
    yield "high", profile.high, 1.0, _HIGHEST_FACTOR
    yield "curves", len(profile.curves), 0, _MOST_ENTRIES
    for count, factor in profile.speedup.items():
        yield f"speedup.{count}", factor, 0.01, 4096.0
    for name, curve in profile.curves.items():
        yield f"curves.{name}.low", curve.low, 0.0, 1.0
        yield f"curves.{name}.high", curve.high, 1.0, _HIGHEST_FACTOR
        yield f"curves.{name}.points", curve.points, 0, 1e9
        for term, coefficient in curve.terms.items():
            yield f"curves.{name}.terms.{term}", coefficient, 0.0, 1e12
    texts = (profile.device, profile.base, profile.runtime, profile.governor, *profile.notes)
    yield "length of texts", max(len(text) for text in texts), 0, _LONGEST_TEXT


def _fail(message: str, where: str, hint: str) -> NoReturn:
    raise TargetError(message, code="G502", where=where, hint=hint) from None
