"""What happened, as data: everything that is printed or written to JSON is here first."""

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
    "Report",
    "ReturnedOperator",
    "ScoreRecord",
    "SearchRecord",
    "SensitivityRecord",
    "ValidationRecord",
]
