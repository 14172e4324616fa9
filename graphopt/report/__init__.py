"""What happened, as data: everything that is printed or written to JSON is here first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.report.comparison import (
        BenchResult,
        Bisection,
        DiffResult,
        OutputDifference,
        PartingRecord,
    )
    from graphopt.report.compiling import (
        CalibrationRecord,
        CandidateRecord,
        Explanation,
        FigureRecord,
        OperatorRecord,
        PassRecord,
        Report,
    )
    from graphopt.report.layers import (
        KernelRecord,
        KernelsRecord,
        LayerRecord,
        SensitivityRecord,
    )
    from graphopt.report.models import ModelFacts, ModelSummary, Notice, PortFacts
    from graphopt.report.progress import Observe
    from graphopt.report.pruning import OrderRecord, PrunedSite, PruningRecord
    from graphopt.report.quantization import (
        LayerSensitivity,
        PrecisionRecord,
        QuantizationAnalysis,
        ReturnedOperator,
    )
    from graphopt.report.recovering import RecoveryRecord
    from graphopt.report.searching import PointRecord, ScoreRecord, SearchRecord
    from graphopt.report.validating import ValidationRecord

__all__ = [
    "BenchResult",
    "Bisection",
    "CalibrationRecord",
    "CandidateRecord",
    "DiffResult",
    "Explanation",
    "FigureRecord",
    "KernelRecord",
    "KernelsRecord",
    "LayerRecord",
    "LayerSensitivity",
    "ModelFacts",
    "ModelSummary",
    "Notice",
    "Observe",
    "OperatorRecord",
    "OrderRecord",
    "OutputDifference",
    "PartingRecord",
    "PassRecord",
    "PointRecord",
    "PortFacts",
    "PrecisionRecord",
    "PrunedSite",
    "PruningRecord",
    "QuantizationAnalysis",
    "RecoveryRecord",
    "Report",
    "ReturnedOperator",
    "ScoreRecord",
    "SearchRecord",
    "SensitivityRecord",
    "ValidationRecord",
]

# Resolved on first use: a compile makes no record of what only searches or comparisons tell.
_HOMES = {
    "comparison": (
        "BenchResult",
        "Bisection",
        "DiffResult",
        "OutputDifference",
        "PartingRecord",
    ),
    "compiling": (
        "CalibrationRecord",
        "CandidateRecord",
        "Explanation",
        "FigureRecord",
        "OperatorRecord",
        "PassRecord",
        "Report",
    ),
    "layers": (
        "KernelRecord",
        "KernelsRecord",
        "LayerRecord",
        "SensitivityRecord",
    ),
    "models": (
        "ModelFacts",
        "ModelSummary",
        "Notice",
        "PortFacts",
    ),
    "progress": ("Observe",),
    "pruning": (
        "OrderRecord",
        "PrunedSite",
        "PruningRecord",
    ),
    "quantization": (
        "LayerSensitivity",
        "PrecisionRecord",
        "QuantizationAnalysis",
        "ReturnedOperator",
    ),
    "recovering": ("RecoveryRecord",),
    "searching": (
        "PointRecord",
        "ScoreRecord",
        "SearchRecord",
    ),
    "validating": ("ValidationRecord",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'graphopt.report' has no attribute {name!r}")
    return getattr(import_module(f"graphopt.report.{home}"), name)
