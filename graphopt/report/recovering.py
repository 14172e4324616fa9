"""What is said of recovery by training: what was trained, for how long, and what it won back."""

from __future__ import annotations

from dataclasses import dataclass

QUANTIZED, FLOAT = "quantized", "float"


@dataclass(frozen=True)
class RecoveryRecord:
    """One training of what a compile left of the model, with the original as the teacher.

    ``by`` is the pass, ``of`` what it trained: the "quantized" graph, its integers in place, or the
    "float" one. ``seconds`` are those of the whole pass. ``before`` and ``after`` are divergences
    of the outputs from those of the original, on samples that were not trained on: KL of class
    scores in nats, half the noise power share of other outputs; None where they are not known.
    ``augment`` says how samples were varied, as it was asked for. ``kept`` is False where training
    won nothing, or was rolled back, as ``why`` says.
    """

    by: str
    of: str
    steps: int
    seconds: float
    before: float | None
    after: float | None
    augment: str
    kept: bool
    why: str = ""

    @property
    def won(self) -> float | None:
        """Share of the divergence that is gone, at most 1; None where it is not known."""
        if self.before is None or self.after is None or not self.before:
            return None
        return 1.0 - self.after / self.before
