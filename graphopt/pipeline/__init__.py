"""Running passes: in recipe order, checked after each, rolled back when a check fails."""

from __future__ import annotations

from graphopt.pipeline.context import PipelineContext
from graphopt.pipeline.probes import Probes, probe_feeds
from graphopt.pipeline.reference import usable_probes
from graphopt.pipeline.runner import Runner
from graphopt.pipeline.verifier import Verifier, snr_db

__all__ = [
    "PipelineContext",
    "Probes",
    "Runner",
    "Verifier",
    "probe_feeds",
    "snr_db",
    "usable_probes",
]
