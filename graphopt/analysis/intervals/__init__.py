"""95 % confidence intervals of what samples tell: shares, differences of shares, means, ratios."""

from graphopt.analysis.intervals.proportions import paired_interval, share_interval
from graphopt.analysis.intervals.quantiles import LEVEL, Z, student
from graphopt.analysis.intervals.resampling import jackknife_interval, resampled_interval

__all__ = [
    "LEVEL",
    "Z",
    "jackknife_interval",
    "paired_interval",
    "resampled_interval",
    "share_interval",
    "student",
]
