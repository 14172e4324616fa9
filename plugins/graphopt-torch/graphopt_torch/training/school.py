"""Everything that one training needs: both models, what is trained, samples and objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.errors import ModelError
from graphopt_torch.execution import Program
from graphopt_torch.quantization import TrainableWeights, float_graph
from graphopt_torch.samples import Augmentation, TrainingSamples
from graphopt_torch.teaching import Objective
from graphopt_torch.training.judge import Judge
from graphopt_torch.training.learner import copies, put
from graphopt_torch.training.loop import train
from graphopt_torch.training.schedule import Schedule
from graphopt_torch.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt_torch.distill_weights import DistillWeights
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.loop import Trained
    from graphopt_torch.training.settlement import Settlement

_TOGETHER = 8
"""Samples of a step where they are run one by one."""


@dataclass
class School:
    """A teacher, a student, and what is taught.

    Args:
        teacher: the program of the original model.
        student: the program of what is trained.
        weights: the parameters of the student.
        samples: to train on and to judge on.
        objective: what is learned.
        batch: samples of a step.
        augment: how samples are altered.
        seed: of the order of samples and of their alteration.
        device: "cpu" or "cuda".
        mixed: whether products are of half precision.
        is_quantized: whether the student computes with rounded numbers.
    """

    teacher: Program
    student: Program
    weights: TrainableWeights
    samples: TrainingSamples
    objective: Objective
    batch: int
    augment: Augmentation
    seed: int = 0
    device: str = "cpu"
    mixed: bool = False
    is_quantized: bool = False

    @classmethod
    def of(
        cls, graph: Graph, context: Context, options: DistillWeights, device: str = "cpu"
    ) -> School:
        """Put together what the training of a graph needs.

        Raises:
            ModelError: G207, torch cannot execute some operators; G217, there is no gradient, or
                nothing that could be trained.
            DataError: G213, there are no samples.
            RecipeError: G103, the inputs cannot be altered as asked.
        """
        original = context.original
        student = Program.of(graph, device=device)
        teacher = Program.of(original, device=device)
        learn = options.learn_scales
        rounded_from = float_graph(graph, context) or original
        weights = TrainableWeights.of(graph, student, learn_scales=learn, reference=rounded_from)
        if not weights.parameters:
            raise ModelError(
                "the model cannot be trained, because it stores no weights",
                code="G217",
                hint="leave recovery by training out",
            )
        samples = TrainingSamples.of(graph, context)
        augment = Augmentation.of(options.augment, graph, samples)
        batch = options.batch or samples.batch_size(student)
        if samples.stacked and not options.batch:
            batch = min(_TOGETHER, len(samples))
        objective = Objective.of(teacher, student, original, graph, samples)
        quantized = _is_quantized(graph)
        mixed = device != "cpu" and not quantized
        return cls(
            teacher,
            student,
            weights,
            samples,
            objective,
            batch,
            augment,
            context.seed,
            device,
            mixed,
            quantized,
        )

    def schedule(self, steps: int, rate: float) -> Schedule:
        """Return the schedule of so many steps."""
        return Schedule(steps, rate, self.batch, seed=self.seed, augment=self.augment)

    def judge(self) -> float:
        """Return the divergence of the student, as it is, on the held-out samples."""
        return self._judge().divergence(self._trainer(self.schedule(1, 1.0)).run)

    def stepper(self) -> Callable[[int], object]:
        """Return what takes a step, by its number, that does not count."""
        trainer = self._trainer(self.schedule(1 << 30, 1e-9))

        def step(number: int) -> None:
            trainer.differentiate(number)
            trainer.learner.learn(number)

        return step

    def attempt(self, steps: int, rate: float, label: str, context: Context) -> float:
        """Return the divergence after a short training from here; the weights stay."""
        before = copies(list(self.weights.parameters.values()))
        trained = self._trained(self.schedule(steps, rate), None, context, label)
        put(before, list(self.weights.parameters.values()))
        return trained.history[-1].divergence

    def train(self, plan: Settlement, checkpoint: Checkpoint, context: Context) -> Trained:
        """Train as settled; the weights are the best that were seen afterwards."""
        schedule = self.schedule(plan.steps, plan.rate)
        return self._trained(schedule, checkpoint, context, "training")

    def _trained(
        self, schedule: Schedule, checkpoint: Checkpoint | None, context: Context, label: str
    ) -> Trained:
        trainer, told = self._trainer(schedule), telling(context, label)
        return train(trainer, self._judge(), checkpoint=checkpoint, progress=told)

    def _judge(self) -> Judge:
        return Judge(self.teacher, self.samples, self.objective, self.batch, self.device)

    def _trainer(self, schedule: Schedule) -> Trainer:
        return Trainer(
            self.student,
            self.weights,
            self.teacher,
            self.samples,
            self.objective,
            schedule,
            device=self.device,
            mixed=self.mixed,
        )


def telling(context: Context, label: str) -> Callable[[int, int, str], None]:
    """Return what shows the progress of a training, with its loss, where somebody looks."""
    return lambda done, total, text: context.tell(f"{label} ({text})", done, total)


def _is_quantized(graph: Graph) -> bool:
    return any(node.op == "DequantizeLinear" for node in graph.walk())
