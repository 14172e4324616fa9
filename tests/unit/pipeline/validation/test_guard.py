"""A guard judges models on ever more samples, with intervals, here and in other processes."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.analysis.metrics import BUILTIN_METRICS, per_sample
from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError, RecipeError
from graphopt.pipeline.validation import GuardState, Validation, open_guard
from graphopt.pipeline.validation.samples import shuffled
from graphopt.pipeline.validation.scoring import summed_score
from graphopt.recipe import Limits
from graphopt.registry import Registry
from graphopt.runtime import open_session
from graphopt.testing import graph
from tests.unit.pipeline.validation.classifier import linear, lookup, samples, validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.pipeline.validation import Guard

    Array = np.ndarray[Any, Any]

LABEL_FREE = ("agreement", "kl", "cosine", "output-snr")


def test_the_score_is_that_of_the_metric_and_the_drop_is_paired(
    guarded: Callable[..., Guard],
) -> None:
    guard, arrays = guarded(400), samples(400)
    score = guard.score(linear(0.1)).record
    outputs = [linear(0.1).run({"x": x[None]})[0] for x in arrays["x"]]
    right = np.array([o.argmax() == y for o, y in zip(outputs, arrays["labels"], strict=True)])
    assert score.value == pytest.approx(100 * right.mean())
    assert (score.metric, score.unit, score.samples) == ("top1", "points", 400)
    assert score.drop == pytest.approx(guard.original.record.value - score.value)
    assert score.low < score.value < score.high
    assert score.drop_low < score.drop < score.drop_high
    # On the same samples the difference is known better than either.
    assert score.drop_high - score.drop_low < 0.8 * (score.high - score.low)
    assert guard.resolution == 0.25


@pytest.mark.parametrize("name", [m.name for m in BUILTIN_METRICS if m.name in LABEL_FREE])
def test_label_free_metrics_have_the_original_at_the_top(
    guarded: Callable[..., Guard], name: str
) -> None:
    guard = guarded(200, labels=False, metric=name, drop=0.5)
    own, other, worse = (guard.score(linear(n)).record for n in (0.0, 0.05, 0.5))
    assert own.drop == pytest.approx(0.0, abs=1e-9)
    assert worse.drop > other.drop > 0
    assert worse.drop_low <= worse.drop <= worse.drop_high
    assert worse.value == pytest.approx(guard.original.record.value - worse.drop)


@pytest.mark.parametrize("name", ["top1", "cross-entropy", *LABEL_FREE])
def test_going_on_is_the_same_as_beginning_with_more(
    guarded: Callable[..., Guard], name: str
) -> None:
    guard = guarded(300, metric=name, drop=1)
    session, runs = linear(0.2), 0

    class Counted:
        outputs = session.outputs

        def run(self, *given: Any) -> Any:
            nonlocal runs
            runs += 1
            return session.run(*given)

    counted: Any = Counted()
    score = guard.score(counted, 50)
    for count in (100, 200, 400):
        score = guard.score(counted, count, score)
    assert runs == 300
    straight = guard.score(session)
    assert np.array_equal(score.numbers, straight.numbers)
    assert score.record == straight.record
    assert np.array_equal(guard.score(session, 120).numbers, straight.numbers[:120])
    assert guard.score(session, 100, straight).record.samples == 100
    stored = np.frombuffer(straight.numbers.tobytes()).reshape(straight.numbers.shape)
    assert guard.judge(stored).record == straight.record


def test_what_is_allowed_holds_is_certain_or_hopeless(guarded: Callable[..., Guard]) -> None:
    guard = guarded(400, drop="3%")
    assert guard.allowed == 3.0
    assert guard.holds(guard.original)
    assert guard.certain(guard.original)
    wrecked = guard.score(linear(5.0), 100)
    assert not guard.holds(wrecked)
    assert guard.hopeless(wrecked)
    near = guard.score(linear(0.03))
    assert guard.holds(near.record) == (near.record.drop <= 3)
    assert guard.certain(near) == (near.record.drop_high <= 3)
    # A drop of exactly what is allowed is allowed, whatever the last digit says.
    exactly = guarded(400, drop=near.record.drop)
    assert exactly.holds(exactly.score(linear(0.03)))
    free = guarded(100, drop=None)
    assert math.isinf(free.allowed)
    assert free.holds(free.score(linear(5.0)))


def test_percent_of_other_metrics_is_of_the_originals_value(guarded: Callable[..., Guard]) -> None:
    guard = guarded(200, metric="cross-entropy", drop="10%")
    assert guard.allowed == pytest.approx(0.1 * abs(guard.original.record.value))
    with pytest.raises(RecipeError, match="`kl` is 0"):
        guarded(50, metric="kl", drop="1%")


def test_a_model_that_gives_nan_is_no_error_and_never_holds(guarded: Callable[..., Guard]) -> None:
    broken = open_session(
        graph(
            """m (float[N, 8] x) => (float[N, 5] y) <float[8, 5] w> {
              a = MatMul (x, w)
              y = Sqrt (a) }""",
            w=-np.ones((8, 5), np.float32),
        )
    )
    for name in ("top1", "agreement", "kl", "cosine"):
        guard = guarded(100, metric=name, drop=1)
        score = guard.score(broken)
        assert not guard.holds(score)
        assert guard.hopeless(score)


def _judged_elsewhere(state: GuardState, noise: float) -> tuple[Any, Any]:
    guard = state.open(Registry(plugins=()))
    score = guard.score(linear(noise), 60)
    return score.numbers, guard.score(linear(noise), after=score).record


def test_another_process_judges_the_same(guarded: Callable[..., Guard]) -> None:
    guard = guarded(150, labels=False, drop=1)
    state = pickle.loads(pickle.dumps(guard.state()))
    assert state.open(Registry(plugins=())).original.record == guard.original.record
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        numbers, record = pool.submit(_judged_elsewhere, guard.state(), 0.2).result(120)
    assert np.array_equal(numbers, guard.score(linear(0.2), 60).numbers)
    assert record == guard.score(linear(0.2)).record


def test_whole_outputs_of_the_original_are_needed_elsewhere(guarded: Callable[..., Guard]) -> None:
    guard = guarded(40, labels=False, metric="kl", drop=1)
    state = pickle.loads(pickle.dumps(guard.state()))
    with pytest.raises(DataError, match="not open here"):
        state.open(Registry(plugins=())).score(linear(0.1))
    opened = state.open(Registry(plugins=()), original=linear)
    assert opened.score(linear(0.1)).record == guard.score(linear(0.1)).record


def test_metrics_of_all_samples_at_once_have_a_jackknife(guarded: Callable[..., Guard]) -> None:
    def precision(outputs: list[Array], labels: Array) -> float:
        """Macro-averaged precision: no sum over samples."""
        found = np.array([o.argmax() for o in outputs])
        shares = [np.mean(labels[found == c] == c) for c in range(5) if (found == c).any()]
        return float(np.mean(shares))

    given = validation(samples(200))
    guard = open_guard(Limits(max_drop=0.1), lookup, given, linear(), own=precision)
    assert (guard.metric.name, guard.metric.unit, guard.allowed) == ("precision", "", 0.1)
    score = guard.score(linear(0.2))
    wanted = precision(
        [linear(0.2).run({"x": x[None]})[0] for x in samples(200)["x"]], samples(200)["labels"]
    )
    assert score.record.value == pytest.approx(wanted)
    assert score.record.drop_low < score.record.drop < score.record.drop_high
    assert guard.score(linear(0.2), 60).record.samples == 60
    assert guard.judge(score.numbers).record == score.record
    assert guard.resolution is None
    spearman = guarded(30, labels=False, metric="spearman", drop=0.1)
    assert spearman.original.record.value == pytest.approx(1.0)
    assert 0 < spearman.score(linear(0.2)).record.drop < 1


def test_metrics_of_users_may_be_sums(guarded: Callable[..., Guard]) -> None:
    own = per_sample("margin", lambda o, y: float(o[0, y] - np.delete(o[0], y).max()), "units")
    given = validation(samples(150))
    guard = open_guard(Limits(max_drop="10%"), lookup, given, linear(), own=own)
    score = guard.score(linear(0.3), 50)
    assert guard.score(linear(0.3), after=score).record.samples == 150
    assert score.record.unit == "units"

    def failing(outputs: Any, labels: Any) -> float:
        raise KeyError("no")

    with pytest.raises(DataError, match=r"`failing` cannot be taken .* KeyError") as caught:
        open_guard(Limits(max_drop=1), lookup, given, linear(), own=failing)
    assert caught.value.code == "G216"


def test_the_order_is_a_permutation_whose_prefixes_have_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [500, 300, 150, 50])
    order = shuffled(1000, labels, seed=4)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() == shuffled(1000, labels, seed=4).tolist()
    assert order.tolist() != shuffled(1000, labels, seed=5).tolist()
    for count in (20, 60, 100, 333, 800):
        found = np.bincount(labels[order[:count]], minlength=4)
        wanted = np.array([0.5, 0.3, 0.15, 0.05]) * count
        # One sample of each class is what rounding costs.
        assert np.abs(found - wanted).max() <= 1.0
    plain = shuffled(1000, np.arange(1000.0), seed=4)
    assert sorted(plain.tolist()) == list(range(1000))


def test_samples_that_are_calibrated_on_are_dropped_by_content() -> None:
    arrays = samples(50)
    specs = {"x": InputSpec("x", ("N", 8), "float32")}
    both = {"x": np.concatenate([arrays["x"][:7], np.ones((2, 8), np.float32)])}
    given = Validation(
        open_dataset(arrays, specs),
        open_dataset(both, specs),
        open_dataset({"x": arrays["x"][5:9]}, specs),
    )
    assert (given.dropped, given.used, len(given.dataset)) == (9, 10, 41)
    guard = open_guard(Limits(max_drop=1), lookup, given, linear())
    assert (guard.total, guard.calibration_samples, guard.state().dropped) == (41, 10, 9)
    labels = guard.about.dataset.labels()
    assert labels is not None
    assert labels.tolist() == arrays["labels"][9:].tolist()
    nothing = Validation(open_dataset(both, specs), open_dataset(both, specs))
    with pytest.raises(DataError, match="0 samples are left") as caught:
        open_guard(Limits(max_drop=1), lookup, nothing, linear())
    assert caught.value.code == "G216"


@pytest.mark.parametrize("name", ["agreement", "kl", "output-snr", "cosine"])
def test_outputs_are_never_held(name: str) -> None:
    wide = "m (float[N, 2] x) => (float[N, 50000] y) <float[2, 50000] w> { y = MatMul (x, w) }"
    random = np.random.default_rng(0)
    sessions = [
        open_session(graph(wide, w=random.normal(size=(2, 50000)).astype(np.float32)))
        for _ in range(2)
    ]
    specs = {"x": InputSpec("x", ("N", 2), "float32")}
    given = validation({"x": random.normal(size=(150, 2)).astype(np.float32)}, specs)
    tracemalloc.start()
    guard = open_guard(Limits(max_drop=1, metric=name), lookup, given, sessions[0])
    guard.score(sessions[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All outputs of one model are 30 MB; one sample in float64, some copies of it, is 3.
    assert peak < 12e6


@pytest.mark.parametrize("name", ["top1", "psnr"])
def test_intervals_of_the_drop_cover_what_is_lost_in_the_long_run(name: str) -> None:
    random, metric, hits = np.random.default_rng(2), lookup(name), 0
    assert not callable(getattr(metric, "function", None))
    for _ in range(300):
        if name == "top1":
            original = random.random(500) < 0.9
            changed = np.where(random.random(500) < 0.03, random.random(500) < 0.5, original)
            columns, lost = (original, changed), 0.9 - (0.97 * 0.9 + 0.03 * 0.5)
            lost *= 100
        else:
            original = random.normal(30, 5, 500)
            columns, lost = (original, original - random.gamma(2, 0.1, 500)), 0.2
        rows = [np.stack([c, np.ones(500)], axis=1).astype(float) for c in columns]
        record = summed_score(metric, rows[1], rows[0], 0)  # type: ignore[arg-type]
        hits += record.drop_low <= lost <= record.drop_high
    # 300 runs alone are off by 2.5 points in 95 of 100 tests.
    assert 0.92 <= hits / 300 <= 0.98


def test_the_guarantee_says_what_was_held_and_what_was_not(guarded: Callable[..., Guard]) -> None:
    guard = guarded(400)
    text = guard.guarantee(guard.score(linear(0.02)))
    assert text.startswith("On 400 validation samples that nothing was calibrated on the model ")
    assert "loses at most 1 point of top1" in text
    assert "with 95 % confidence" in text
    assert "not guaranteed" in text
    assert text.count(".") == text.rstrip(".").count(".") + 1
    free = guarded(100, labels=False, drop=None)
    assert "no loss of agreement is ruled out" in free.guarantee()
    assert "nothing is said about how often the original itself is right" in free.guarantee()
