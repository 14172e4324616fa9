"""Train what a model was made into towards the original model, on unlabelled samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class DistillWeights:
    """Train the weights towards the original model, without labels.

    The original model is the teacher: what it says of a sample is what is learned, at its outputs
    and at the ends of its blocks. Behind a pass that prunes, the float model is trained; in a
    quantized model, where every weight and activation is rounded as it will be, the weights and the
    scales of the quantizers are trained (QAT). Nothing but stored values changes. What comes out is
    the best that was seen on samples that were not trained on, or what came in.

    Args:
        minutes: to spend; the report has the steps that came of it. Nothing is done by default.
        steps: to take, in place of minutes.
        rate: the highest learning rate, of Adam, for weights whose root mean square is 0.1; it
            goes with that for others. 0 to choose it by short trials, which are judged on samples
            that were not trained on, and to raise it where the training is long.
        augment: how samples are altered: "none", "auto" (colour pictures are mirrored, moved
            and mixed, nothing else is touched), or some of "flip,crop=4,noise=0.05,mixup=0.2".
        learn_scales: whether scales of quantizers are trained as well.
        batch: samples of a step; 0 for as many as memory allows, 64 at most.
        threads: of the processor; 0 for all. The bytes of the result depend on how many.
    """

    name: ClassVar[str] = "distill-weights"
    effect: ClassVar[Effect] = Effect.REDUCED

    minutes: float = 0.0
    steps: int = 0
    rate: float = 0.0
    augment: str = "auto"
    learn_scales: bool = True
    batch: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for option in ("minutes", "steps", "rate", "batch", "threads"):
            value = getattr(self, option)
            if not (math.isfinite(value) and value >= 0):
                raise RecipeError(
                    f"`{option}` is {value}",
                    code="G103",
                    hint="0 leaves it open, and anything else is above that",
                )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Train, if there is a budget.

        Raises:
            ModelError: G207, torch cannot execute some operators; G217, there is no gradient.
            DataError: G213, there are no samples.
            RecipeError: G103, the inputs cannot be altered as ``augment`` says.
        """
        if not self.minutes and not self.steps:
            return PassResult(False)
        # Passes are listed and recipes are read without torch, which takes seconds to import.
        from graphopt_torch.training.distillation import distill

        return distill(graph, context, self)
