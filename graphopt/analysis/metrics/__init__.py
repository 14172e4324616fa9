"""How good outputs are: the metrics that come with graphopt, and what makes one; larger is better.

A metric takes the first output of the model for each sample, an array with its batch axis, and what
is expected of it: a label, the next tokens, or the output of the original.
"""

from graphopt.analysis.metrics.base import (
    POINTS,
    AnyMetric,
    Expects,
    Metric,
    WholeMetric,
    as_metric,
    per_sample,
)
from graphopt.analysis.metrics.classes import (
    are_classes,
    cross_entropy,
    next_token_top1,
    perplexity,
    top1,
    top5,
)
from graphopt.analysis.metrics.closeness import agreement, cosine, kl, spearman
from graphopt.analysis.metrics.positions import next_tokens
from graphopt.analysis.metrics.signals import negative_mse, output_snr, psnr, si_sdr, snr

BUILTIN_METRICS: tuple[AnyMetric, ...] = (
    *(top1, top5, next_token_top1, cross_entropy, perplexity),
    *(psnr, snr, si_sdr, negative_mse),
    *(agreement, kl, cosine, spearman, output_snr),
)

__all__ = [
    "BUILTIN_METRICS",
    "POINTS",
    "AnyMetric",
    "Expects",
    "Metric",
    "WholeMetric",
    "agreement",
    "are_classes",
    "as_metric",
    "cosine",
    "cross_entropy",
    "kl",
    "negative_mse",
    "next_token_top1",
    "next_tokens",
    "output_snr",
    "per_sample",
    "perplexity",
    "psnr",
    "si_sdr",
    "snr",
    "spearman",
    "top1",
    "top5",
]
