"""`graphopt profile`: a device is measured, and becomes a target."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.api.host_profile import host_profile_path, keep_host_profile
from graphopt.api.setup import find_target
from graphopt.errors import GraphOptError, TargetError
from graphopt.ir import write_whole
from graphopt.registry import Registry
from graphopt.targets.profile_file import profile_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from graphopt.cost.profiling import Measurements
    from graphopt.targets.base import Target
    from graphopt.targets.profile import DeviceProfile

    Step = Callable[[str, int, int], None]

MINUTES = 4.0
"""Time that a measurement takes unless told otherwise."""


@dataclass(frozen=True)
class Profiled:
    """A device that was profiled.

    Args:
        profile: what is known of it now.
        path: file that the profile was written to; None when it was only kept for ``host``.
        kept: whether ``host`` uses it from now on.
        kernels: kernels that were measured; 0 where only whole models were.
        models: whole models that were measured.
        spread: slowest over fastest time of the anchor model, less one; None when not watched.
        threads: numbers of threads that were measured.
    """

    profile: DeviceProfile
    path: Path | None
    kept: bool
    kernels: int
    models: int
    spread: float | None
    threads: tuple[int, ...]


def profile(
    *,
    source: Path | str | None = None,
    output: Path | str | None = None,
    minutes: float = MINUTES,
    threads: int | None = None,
    base: str | None = None,
    quiet: bool = True,
    step: Step | None = None,
    registry: Registry | None = None,
) -> Profiled:
    """Measure this machine, or read what was measured elsewhere, and fit a profile to it.

    Args:
        source: results that a device wrote (``write_bundle``), or a table of whole-model
            measurements ending in ``.csv``; this machine is measured when None.
        output: JSON file for the profile. Needed with ``source``; without, the profile of this
            machine is kept in the cache folder, and ``host`` uses it.
        minutes: how long to measure this machine.
        threads: measured besides one; all cores when None.
        base: target whose rules the device follows; found by the processor's flags when None.
            A table of whole models needs it.
        quiet: show no progress of the measurement on stderr.
        step: told what is being done, and how many of how many steps are done.
        registry: targets.

    Raises:
        TargetError: G504, the results cannot be used; G506, the table cannot; G501 and G502, the
            base; G108 where an argument is missing.
        ModelError: G201 to G209, a model of the table.
    """
    found = None if base is None else find_target(base, registry or Registry())
    if source is None:
        return _profile_host(_path(output), minutes, threads or 0, quiet=quiet, step=step)
    if output is None:
        raise GraphOptError(
            "the profile needs a file", code="G108", hint="name one, such as `-o my-device.json`"
        )
    if Path(source).suffix == ".csv":
        return _from_table(Path(source), Path(output), found)
    measured = _measurements(Path(source), found, step)
    made = _fitted(measured)
    _write(Path(output), made)
    return _told(made, measured, Path(output), kept=False)


def write_bundle(output: Path | str) -> int:
    """Write the one file that measures a device with onnxruntime and numpy alone.

    It is a Python archive: ``python device.pyz results.json``. Its content depends on the version
    of graphopt alone.

    Returns:
        its size in bytes.

    Raises:
        TargetError: G504, it cannot be written.
    """
    from graphopt.cost.profiling.bundle import write_archive

    archive = write_archive()
    _save(Path(output), archive)
    return len(archive)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)


def _profile_host(
    output: Path | None, minutes: float, threads: int, *, quiet: bool, step: Step | None
) -> Profiled:
    from graphopt.cost.profiling.bundle import write_archive
    from graphopt.runtime.device.run import run_archive
    from graphopt.targets import host_target

    if output is None and host_profile_path() is None:
        raise GraphOptError(
            "there is no cache folder to keep the profile of this machine in",
            code="G108",
            hint="write it to a file with `-o my-device.json`, or unset GRAPHOPT_CACHE",
        )
    if output is not None and not output.parent.is_dir():
        raise _unwritable(output, "its folder does not exist")
    if step is not None:
        step("building models", 0, 1)
    archive = write_archive()
    with _results_file() as results:
        run_archive(archive, results, minutes=minutes, threads=threads, quiet=quiet)
        measured = _measurements(results, host_target(), step)
        made = _fitted(measured)
        if output is not None:
            _write(output, made)
        kept = _keep(made)
        results.unlink()
    return _told(made, measured, output, kept=kept)


@contextmanager
def _results_file() -> Iterator[Path]:
    """Yield where results go: beside the kept profile, so that an interrupted run goes on."""
    kept = host_profile_path()
    if kept is not None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(kept.parent, error.strerror or str(error)) from error
        yield kept.with_suffix(".results")
        return
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        yield Path(folder) / "results.json"


def _keep(made: DeviceProfile) -> bool:
    try:
        return keep_host_profile(made) is not None
    except OSError as error:
        place = host_profile_path() or Path()
        raise _unwritable(place, error.strerror or str(error)) from error


def _measurements(path: Path, target: Target | None, step: Step | None) -> Measurements:
    from graphopt.cost.profiling.join import measurements_of
    from graphopt.cost.profiling.results import read_results

    def tell(done: int, total: int) -> None:
        if step is not None:
            step("reading kernels", done, total)

    return measurements_of(read_results(path), target, tell)


def _fitted(measured: Measurements) -> DeviceProfile:
    from graphopt.cost.fitting import fit

    if not measured.rows:
        raise TargetError(
            "not one kernel was measured",
            code="G504",
            hint="; ".join(measured.notes[:3]) or "measure longer",
        )
    return fit(measured)


def _from_table(source: Path, output: Path, base: Target | None) -> Profiled:
    from graphopt.api.transfer import transfer_profile

    if base is None:
        raise GraphOptError(
            "a table of whole models does not say what kind of device it is about",
            code="G108",
            hint="name the target that it is most like, such as `--base arm`",
        )
    made = transfer_profile(source, base, profile=base.profile)
    _write(output, made)
    return Profiled(
        made, output, kept=False, kernels=0, models=0, spread=None, threads=(made.threads,)
    )


def _told(
    made: DeviceProfile, measured: Measurements, path: Path | None, *, kept: bool
) -> Profiled:
    return Profiled(
        profile=made,
        path=path,
        kept=kept,
        kernels=len(measured.rows),
        models=len(measured.models),
        spread=measured.drift.spread,
        threads=tuple(measured.device["threads"]),
    )


def _write(path: Path, made: DeviceProfile) -> None:
    _save(path, profile_json(made))


def _save(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _unwritable(path: Path, reason: str) -> TargetError:
    return TargetError(
        f"cannot write `{path}`: {reason}",
        code="G504",
        where=str(path),
        hint="choose another place, or make room there",
    )
