"""What graphopt itself registers for judging outputs, through the hook that plugins use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@hookimpl
def graphopt_register_metrics() -> Sequence[tuple[str, Callable[..., float]]]:
    """Return the metrics that come with graphopt."""
    from graphopt.analysis import metrics

    return [
        ("top1", metrics.top1),
        ("psnr", metrics.psnr),
        ("negative-mse", metrics.negative_mse),
    ]
