"""onnxruntime: opening, running, timing models, and seeing what it makes of them."""

from __future__ import annotations

from graphopt.runtime.arithmetic import HEAVY, INTEGER_KERNELS, arithmetic, has_packed_integers
from graphopt.runtime.bounded import RunStoppedError
from graphopt.runtime.census import Census, Execution, census, open_with_census
from graphopt.runtime.executed import executed_graph, fill_shapes, made_up_feed
from graphopt.runtime.partwise import PartwiseSession, open_sparingly
from graphopt.runtime.profile import KernelTimes, profile_kernels
from graphopt.runtime.race import RaceResult, Timing, race
from graphopt.runtime.session import Session, newest_supported_opset, open_session, versions
from graphopt.runtime.tensors import IntermediateTensors

__all__ = [
    "HEAVY",
    "INTEGER_KERNELS",
    "Census",
    "Execution",
    "IntermediateTensors",
    "KernelTimes",
    "PartwiseSession",
    "RaceResult",
    "RunStoppedError",
    "Session",
    "Timing",
    "arithmetic",
    "census",
    "executed_graph",
    "fill_shapes",
    "has_packed_integers",
    "made_up_feed",
    "newest_supported_opset",
    "open_session",
    "open_sparingly",
    "open_with_census",
    "profile_kernels",
    "race",
    "versions",
]
