"""onnxruntime: opening, running, timing models, and seeing what it makes of them."""

from __future__ import annotations

from graphopt.runtime.census import HEAVY, Census, Execution, census, node_name, open_with_census
from graphopt.runtime.partwise import PartwiseSession, open_sparingly
from graphopt.runtime.profile import KernelTimes, profile_kernels
from graphopt.runtime.race import RaceResult, Timing, race
from graphopt.runtime.session import Session, newest_supported_opset, open_session, versions
from graphopt.runtime.tensors import IntermediateTensors

__all__ = [
    "HEAVY",
    "Census",
    "Execution",
    "IntermediateTensors",
    "KernelTimes",
    "PartwiseSession",
    "RaceResult",
    "Session",
    "Timing",
    "census",
    "newest_supported_opset",
    "node_name",
    "open_session",
    "open_sparingly",
    "open_with_census",
    "profile_kernels",
    "race",
    "versions",
]
