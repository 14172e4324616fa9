"""The clock of a search: finalists against the original and each other, in one run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from graphopt.runtime import open_session, race, versions
from graphopt.targets import host_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.api.searching.ground import Ground
    from graphopt.planner.joint import Store
    from graphopt.runtime import Session
    from graphopt.targets.base import Target

_SECONDS = 4.0
_ORIGINAL = "original"


def timed_finalists(
    store: Store, digests: Sequence[str], ground: Ground
) -> tuple[float, dict[str, float]]:
    """Return the median of the original, and how many times faster each model is.

    The lower quartiles of interleaved rounds are compared. What an earlier run measured here is
    taken again, so that a search that goes on decides as it did.

    Args:
        store: has the models, and what was measured before.
        digests: of the models.
        ground: has the original open, and samples.
    """
    key = _key([ground.basis, *sorted(digests)])
    known = store.timed(key)
    if known is None:
        known = _race(store, digests, ground)
        store.add_timed(key, known)
    return known[_ORIGINAL], {digest: known[digest] for digest in digests}


def _race(store: Store, digests: Sequence[str], ground: Ground) -> dict[str, float]:
    verifier = ground.verifier
    feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
    sessions = {digest: _open(store.path(digest), ground.target) for digest in digests}
    contenders = {**sessions, _ORIGINAL: verifier.original}
    result = race(contenders, feeds, seconds=_SECONDS, min_rounds=9)
    found = {digest: result.speedup_of_quartiles(digest, _ORIGINAL) for digest in digests}
    return {_ORIGINAL: result.timings[_ORIGINAL].median_ms, **found}


def _open(path: Path, target: Target) -> Session:
    from graphopt import ir

    return open_session(ir.load(path), target=target)


def _key(parts: Sequence[str]) -> str:
    host = host_target()
    told = [*parts, host.summary, list(host.isa), versions()["onnxruntime"]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
