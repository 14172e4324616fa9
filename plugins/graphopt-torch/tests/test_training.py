"""Steps, rates, judgements and checkpoints of a training."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.distill_weights import DistillWeights
from graphopt_torch.execution import Program
from graphopt_torch.quantization import TrainableWeights
from graphopt_torch.samples import TrainingSamples
from graphopt_torch.teaching import Objective
from graphopt_torch.training import Checkpoint, Schedule, train
from graphopt_torch.training import checkpoint as checkpoint_module
from graphopt_torch.training.judge import Judge, is_surely_less
from graphopt_torch.training.learner import Learner
from graphopt_torch.training.pace import RATES, best_rate, seconds_per_step
from graphopt_torch.training.reproducible import reproducible
from graphopt_torch.training.trainer import Trainer
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.testing import context, graph, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from graphopt.ir import Graph

MODEL = """
small (float[N, 6] x) => (float[N, 4] y) <float[6, 12] w1, float[12] b1, float[12, 4] w2> {
  a = MatMul (x, w1)
  b = Add (a, b1)
  c = Relu (b)
  y = MatMul (c, w2)
}
"""

STATEFUL = """
stateful (float[1, 1, 5] x, float[1, 8] state) => (float[1, 1, 8] y, float[1, 8] next)
<float[5, 8] w, float[8, 8] u> {
  axis = Constant <value = int64[1] {1}> ()
  a = MatMul (x, w)
  b = Squeeze (a, axis)
  c = MatMul (state, u)
  d = Add (b, c)
  next = Tanh (d)
  y = Unsqueeze (next, axis)
}
"""


def smaller(text: str) -> Graph:
    """Return a net whose weights are of a usual size."""
    made = graph(text)
    for value in list(made.initializers):
        array = value.array()
        if array.dtype == np.float32:
            made.set_tensor(value, ir.Tensor.from_array(0.3 * array))
    return made


def disturbed(original: Graph, share: float) -> Graph:
    made = original.copy()
    random = np.random.default_rng(1)
    for value in list(made.initializers):
        array = value.array()
        if array.dtype == np.float32:
            noise = random.standard_normal(array.shape).astype(np.float32)
            made.set_tensor(value, ir.Tensor.from_array(array + share * array.std() * noise))
    return made


class Lesson:
    """A net, one that was disturbed, and what it takes to train that."""

    def __init__(self) -> None:
        self.original = smaller(MODEL)
        self.made = disturbed(self.original, 0.5)
        inputs = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
        self.samples = TrainingSamples.of(self.made, context(data={"x": inputs}, model=self.made))
        self.teacher, self.student = Program.of(self.original), Program.of(self.made)
        self.weights = TrainableWeights.of(self.made, self.student)
        self.objective = Objective.of(
            self.teacher, self.student, self.original, self.made, self.samples
        )

    def train(
        self,
        schedule: Schedule,
        *,
        checkpoint: Checkpoint | None = None,
        progress: Any = None,
        **options: Any,
    ) -> Any:
        parts = (self.student, self.weights, self.teacher, self.samples, self.objective)
        with reproducible(1):
            trainer = Trainer(*parts, schedule, **options)
            judge = Judge(self.teacher, self.samples, self.objective, schedule.batch)
            return train(trainer, judge, checkpoint=checkpoint, progress=progress)


def noting(steps: list[int]) -> Callable[[int, int, str], None]:
    return lambda done, _total, _text: steps.append(done)


# -- how fast ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(1e-6, 1.0))
def test_the_rate_rises_and_falls(steps: int, rate: float) -> None:
    schedule = Schedule(steps, rate, 8)
    rates = [schedule.rate_at(step) for step in range(steps)]
    assert max(rates) == pytest.approx(rate)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) > 0.0


@settings(deadline=None)
@given(st.integers(1, 500))
def test_a_training_is_judged_now_and_then_and_at_its_end(steps: int) -> None:
    schedule = Schedule(steps, 1e-3, 8)
    judged = [done for done in range(1, steps + 1) if schedule.is_judged(done)]
    assert judged[-1] == steps
    assert len(judged) == min(16, steps)


@pytest.mark.parametrize("best", range(len(RATES)))
def test_a_rate_is_found_wherever_the_best_is(best: int) -> None:
    tried = []

    def attempt(rate: float) -> float:
        tried.append(rate)
        return abs(math.log(rate / RATES[best]))

    assert best_rate(attempt) == RATES[best]
    assert len(set(tried)) == len(tried), "no rate is tried twice"


def test_steps_are_timed_without_the_first() -> None:
    numbers: list[int] = []
    assert seconds_per_step(numbers.append) < 1.0
    assert numbers == list(range(13))


def test_small_weights_take_small_steps() -> None:
    """Adam moves everything by the rate; in proportion to its size is what does no harm."""
    large, small = (torch.nn.Parameter(torch.full((4,), size)) for size in (1.0, 0.05))
    learner = Learner({"weights": [large, small]}, Schedule(1, 1e-3, 1, warm_up=0.0))
    (large.sum() + small.sum()).backward()
    learner.learn(0)
    moved = [1.0 - float(large[0].detach()), 0.05 - float(small[0].detach())]
    assert moved[0] == pytest.approx(20 * moved[1], rel=1e-3)


# -- what comes of it ----------------------------------------------------------------------


def test_what_is_returned_is_the_best_that_was_judged() -> None:
    lesson = Lesson()
    told: list[tuple[int, int, str]] = []
    trained = lesson.train(Schedule(80, 1e-2, 16), progress=lambda *facts: told.append(facts))
    assert trained.is_better
    assert trained.after == min(j.divergence for j in trained.history)
    assert trained.after < 0.2 * trained.before
    assert told[-1][:2] == (80, 80)
    assert "diverges by" in told[-1][2]
    lesson.weights.write(lesson.made)
    feeds = [{"x": b["x"].numpy()} for b in lesson.samples.held_out_batches()]
    expected = [run(lesson.original, feed)[0] for feed in feeds]
    found = [run(lesson.made, feed)[0] for feed in feeds]
    apart = [
        lesson.objective.divergence({"y": torch.from_numpy(a)}, {"y": torch.from_numpy(b)})
        for a, b in zip(expected, found, strict=True)
    ]
    assert np.mean(apart) == pytest.approx(trained.after, rel=1e-3)


def test_a_regulariser_and_progress_belong_to_every_step() -> None:
    lesson = Lesson()
    steps: list[int] = []
    asked: list[int] = []
    heavy = lesson.weights.parameters["w1"]

    def regularise(number: int) -> torch.Tensor:
        asked.append(number)
        return heavy.square().sum()

    lesson.train(Schedule(20, 1e-3, 16), regularise=regularise, progress=noting(steps))
    assert steps == list(range(1, 21))
    assert asked == list(range(20))


def test_half_precision_learns_as_well() -> None:
    """What a GPU does by default; torch does the same on the CPU when it is told to."""
    trained = Lesson().train(Schedule(80, 1e-2, 16), mixed=True)
    assert trained.after < 0.5 * trained.before


def test_a_stateful_model_is_trained_one_sample_at_a_time() -> None:
    """As DTLN: a batch of one, and the state goes in and out."""
    original = smaller(STATEFUL)
    made = disturbed(original, 0.5)
    random = np.random.default_rng(0)
    data = {
        "x": random.standard_normal((60, 1, 5)).astype(np.float32),
        "state": np.tanh(random.standard_normal((60, 8))).astype(np.float32),
    }
    feeds = [{name: values[i : i + 1] for name, values in data.items()} for i in range(60)]
    given = context(data=feeds, model=made, original=original)
    result = DistillWeights(steps=60, rate=1e-2, batch=8, threads=1).run(made, given)
    assert result.modified
    assert result.metrics["divergence"] < 0.5 * result.metrics["divergence before"]


# -- on disk -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"PK", b"nonsense" * 100])
def test_a_damaged_checkpoint_is_as_none(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(damage)
    trained = Lesson().train(Schedule(12, 1e-2, 16), checkpoint=Checkpoint(path))
    fresh = Lesson().train(Schedule(12, 1e-2, 16))
    assert trained.history == fresh.history


def test_a_checkpoint_of_another_model_is_as_none(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    other = {"learner weight 0": np.zeros((3, 3)), "done": np.array(5), "best 0": np.zeros(2)}
    checkpoint.save(other)
    trained = Lesson().train(Schedule(12, 1e-2, 16), checkpoint=checkpoint)
    assert trained.history == Lesson().train(Schedule(12, 1e-2, 16)).history


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """Not interrupted but killed: nothing is saved at the end."""
    schedule = Schedule(40, 1e-2, 16)
    whole = Lesson()
    expected = whole.train(schedule)
    killed = Lesson()
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", every=0.0)

    def kill(done: int, _total: int, _text: str) -> None:
        if done == 23:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        killed.train(schedule, checkpoint=checkpoint, progress=kill)
    again = Lesson()
    steps: list[int] = []
    found = again.train(schedule, checkpoint=checkpoint, progress=noting(steps))
    assert 1 < steps[0] <= 23
    assert found.history == expected.history
    for name, values in again.weights.state().items():
        np.testing.assert_array_equal(values, whole.weights.state()[name])


def test_forgotten_checkpoints_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_ROOM", 10_000)
    for number in range(4):
        Checkpoint(tmp_path / f"{number}.npz").save({"a": np.zeros(500)})
        os.utime(tmp_path / f"{number}.npz", (number + 1.0, number + 1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.npz", "3.npz"]


def test_without_a_folder_nothing_is_kept() -> None:
    checkpoint = Checkpoint(None)
    checkpoint.save({"a": np.zeros(1)})
    checkpoint.discard()
    assert checkpoint.load() is None


def test_torch_is_left_as_it_was() -> None:
    threads = torch.get_num_threads()
    with reproducible(3):
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_chance_explains_is_no_gain() -> None:
    """With few samples to judge on, the best of many states looks better than it is."""
    before = np.linspace(0.1, 1.0, 20)
    assert is_surely_less(before - 0.01, before)
    assert not is_surely_less(before, before)
    noisy = before + np.where(np.arange(20) % 2, 0.3, -0.32)
    assert noisy.mean() < before.mean()
    assert not is_surely_less(noisy, before)
    assert is_surely_less(before[:1] - 0.01, before[:1])
    assert not is_surely_less(np.full(20, np.inf), before)
    assert is_surely_less(before, np.full(20, np.inf))
