"""Remove channels while the model is trained: quantization-aware pruning where it has Q and DQ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult
from graphopt.passes.prune.goal import Goal
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


def in_unit_interval(share: float) -> str | None:
    """Return what a share must be where it is not that."""
    return None if 0.0 <= share <= 1.0 else "between 0 and 1"


@dataclass(frozen=True)
class PruneWhileTraining:
    """Remove the units that matter least in steps, and train the rest on the original in between.

    Labels are not needed: the model that was given is the teacher. Units are closed where sums
    read them, which is the same as removing them, quantizers staying in place; what is closed in
    the end is taken out of the graph. Behind ``insert-qdq`` this prunes and trains the integer
    model at once.

    Args:
        to: what to reach, such as "latency=0.6x", "macs=0.5x", "params=100k" or "size=1MB", by
            graphopt's own cost model. A share is of the model that was given; for latency and size,
            where the graph is quantized already, of that graph. Nothing is removed by default.
        minutes: that training may take, all together.
        steps: of training, all together; exact, and stronger than ``minutes``.
        share: of the steps in which units go; the rest trains what is left.
        removals: in how many steps units go; most in the first of them.
        lasso: weight of the norms of the units that are to go next, in the loss; 0 for none.
        rate: of Adam while units go; 0 for 1e-3. What is left is trained at a rate that is chosen.
        exclude: weights, tensors or groups that stay as they are.
        augment: how samples are altered: "auto", "none" or such as "flip,crop=4,mixup=0.2".
        learn_scales: whether scales of quantizers are trained.
        batch: samples of a step; 0 for what memory allows, at most 64.
        threads: of the processor; 0 for all. The bytes of the result depend on how many.
    """

    name: ClassVar[str] = "prune-while-training"
    effect: ClassVar[Effect] = Effect.REDUCED

    to: str = ""
    minutes: float = field(default=5.0, metadata={"minimum": 0})
    steps: int = field(default=0, metadata={"minimum": 0})
    share: float = field(default=0.5, metadata={"must": in_unit_interval})
    removals: int = field(default=10, metadata={"minimum": 1})
    lasso: float = field(default=1e-3, metadata={"minimum": 0})
    rate: float = field(default=0.0, metadata={"minimum": 0})
    exclude: tuple[str, ...] = ()
    augment: str = "auto"
    learn_scales: bool = True
    batch: int = field(default=0, metadata={"minimum": 0})
    threads: int = field(default=0, metadata={"minimum": 0})

    def __post_init__(self) -> None:
        if self.to:
            Goal.parse(self.to)

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Prune and train in place.

        Raises:
            PassError: G308, the goal cannot be reached; G309, the removal was not exact.
            ModelError: G207, the model cannot be trained.
        """
        if not self.to:
            return PassResult(False)
        from graphopt_torch.pruning.qap import prune_while_training

        return prune_while_training(graph, self, context)
