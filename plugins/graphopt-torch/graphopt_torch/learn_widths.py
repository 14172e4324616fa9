"""Learn how wide each layer and how many bits each weight is worth, within a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.prune.goal import Goal
from graphopt.types import Effect
from graphopt_torch.prune_while_training import in_unit_interval

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context

_BITS = (4, 8)


@dataclass(frozen=True)
class LearnWidths:
    """Decide widths of layers and bits of weights together, by training under a budget.

    One objective: the distance from the model that was given, and what the expected latency, size
    or number of products exceed their limits by. Widths and bits are probabilities while weights
    are trained with them; prices rise until the budget is kept to. Then they are decided, units
    are taken out of the graph, and what is left is trained. Labels are not needed.

    Args:
        to: what to reach, such as "latency=0.6x", "macs=0.5x", "params=100k" or "size=1MB", by
            graphopt's own cost model; several with commas between: "latency=0.7x,size=0.4x". A
            share is of the model that was given; for latency and size, where the graph is quantized
            already, of that graph. Nothing is decided by default.
        bits: what integer weights may have: 8, or 8 and 4. Weights of four bits are kept so in the
            file, and computed with in 8 bits: they count for "size" alone.
        minutes: that training may take, all together.
        steps: of training, all together; exact, and stronger than ``minutes``.
        share: of the steps before widths are decided; the rest trains what is left.
        rate: of Adam while widths are learned; 0 for 1e-3. What is left is trained at a rate that
            is chosen.
        exclude: weights, tensors or groups that stay as they are.
        augment: how samples are altered: "auto", "none" or such as "flip,crop=4,mixup=0.2".
        learn_scales: whether scales of quantizers are trained.
        batch: samples of a step; 0 for what memory allows, at most 64.
        threads: of the processor; 0 for all. The bytes of the result depend on how many.
    """

    name: ClassVar[str] = "learn-widths"
    effect: ClassVar[Effect] = Effect.REDUCED

    to: str = ""
    bits: tuple[int, ...] = (8, 4)
    minutes: float = field(default=5.0, metadata={"minimum": 0})
    steps: int = field(default=0, metadata={"minimum": 0})
    share: float = field(default=0.5, metadata={"must": in_unit_interval})
    rate: float = field(default=0.0, metadata={"minimum": 0})
    exclude: tuple[str, ...] = ()
    augment: str = "auto"
    learn_scales: bool = True
    batch: int = field(default=0, metadata={"minimum": 0})
    threads: int = field(default=0, metadata={"minimum": 0})

    def __post_init__(self) -> None:
        metrics = [Goal.parse(text).metric for text in self.goals]
        if len(set(metrics)) < len(metrics):
            raise RecipeError(
                f"`{self.to}` says two things of one figure",
                code="G103",
                hint='one goal for each figure: "latency=0.7x,size=0.4x"',
            )
        if 8 not in self.bits or not set(self.bits) <= set(_BITS):
            raise RecipeError(
                f"`bits` is {list(self.bits)}", code="G103", hint="[8], or [8, 4] to choose"
            )

    @property
    def goals(self) -> tuple[str, ...]:
        """The goals one by one."""
        return tuple(filter(None, (text.strip() for text in self.to.split(","))))

    @property
    def has_bits(self) -> bool:
        """Whether bits are to be decided: four bits are allowed, and a size is asked for."""
        return 4 in self.bits and any(Goal.parse(text).metric == "size" for text in self.goals)

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Learn and decide, in place.

        Raises:
            PassError: G308, the budget cannot be kept to; G309, the removal was not exact.
            ModelError: G207, the model cannot be trained.
        """
        if not self.goals:
            return PassResult(False)
        from graphopt_torch.pruning.joint import learn_widths

        return learn_widths(graph, self, context)
