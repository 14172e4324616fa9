"""The profile of this machine, kept in the user's cache folder from one measurement on.

Nothing is measured before somebody asks for it: five minutes of full load are no side effect of an
estimate. From then on every command that aims at ``host`` uses what was measured.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from graphopt.calibration.cache_folder import cache_folder
from graphopt.errors import TargetError
from graphopt.ir import write_whole
from graphopt.runtime import versions
from graphopt.targets import host_target
from graphopt.targets.profile_file import profile_json, read_profile, with_profile

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.targets.base import Target
    from graphopt.targets.profile import DeviceProfile


def host_profile_path() -> Path | None:
    """Return where the profile of this machine is kept; None when caching is off.

    The name depends on processor, cores and onnxruntime: another of these, another profile.
    """
    folder = cache_folder()
    if folder is None:
        return None
    host = host_target()
    key = [host.summary, host.isa, host.compute.cores, versions()["onnxruntime"]]
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=12).hexdigest()
    return folder / "profiles" / f"{digest}.json"


def host_profile() -> DeviceProfile | None:
    """Return the kept profile of this machine; None where there is none that can be used."""
    path = host_profile_path()
    if path is None or not path.is_file():
        return None
    with suppress(TargetError):
        return read_profile(path)
    return None


def has_host_profile() -> bool:
    """Return whether this machine was profiled with the onnxruntime that is installed."""
    return host_profile() is not None


def keep_host_profile(profile: DeviceProfile) -> Path | None:
    """Keep a profile of this machine; returns where, or None when caching is off.

    Raises:
        OSError: the folder cannot be written.
    """
    path = host_profile_path()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, profile_json(profile))
    return path


def with_host_profile(target: Target) -> Target:
    """Return ``host`` with its kept profile; any other target as it is."""
    profile = host_profile() if target.is_host and target.profile is None else None
    if profile is None:
        return target
    return with_profile(target, profile, "`graphopt profile` on this machine")
