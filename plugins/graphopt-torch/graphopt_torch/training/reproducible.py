"""The state of torch while something is trained; what was set before comes back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reproducible(threads: int, device: str = "cpu") -> Iterator[None]:
    """Let torch give the same bytes for the same steps, inside the block.

    On a GPU sums are made in the order in which they are ready, and the last bits differ.

    Args:
        threads: that torch computes with.
        device: "cpu", or "cuda".
    """
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device == "cpu" or strict)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)


def best_device() -> str:
    """Return "cuda" where torch has a GPU to compute on, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
