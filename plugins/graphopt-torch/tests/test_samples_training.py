"""Samples of real models: in memory, apart for judging, together only where that is the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program
from graphopt_torch.quantization import TrainableWeights
from graphopt_torch.samples import Augmentation, TrainingSamples, collection
from graphopt_torch.samples.batch_memory import step_bytes
from graphopt_torch.samples.collection import collect

from graphopt import ir, testing
from graphopt.api.source import input_specs
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]

ROWS = testing.graph("m (float[N, 5] x) => (float[N, 5] y) { y = Relu(x) }")
SEQUENCES = testing.graph("m (int64[N, T] ids) => (int64[N, T] y) { y = Identity(ids) }")
MEAN = testing.graph("m (float[T, 5] x) => (float[1, 5] y) { y = ReduceMean<axes=[0]>(x) }")


def numbered(count: int) -> Array:
    """Rows that can be told apart: the first entry is the number of the sample."""
    rows = np.random.default_rng(0).standard_normal((count, 5)).astype(np.float32)
    rows[:, 0] = np.arange(count)
    return rows


def of(graph: ir.Graph, data: Any, **options: Any) -> TrainingSamples:
    return TrainingSamples.of(graph, testing.context(data=data, model=graph), **options)


def some(batches: Iterator[dict[str, torch.Tensor]], count: int) -> list[dict[str, torch.Tensor]]:
    return list(itertools.islice(batches, count))


def numbers(batches: list[dict[str, torch.Tensor]]) -> list[float]:
    return [float(row[0]) for batch in batches for row in batch["x"]]


# -- what is trained and judged on ---------------------------------------------------------


def test_nothing_is_both_trained_and_judged_on() -> None:
    samples = of(ROWS, {"x": numbered(40)})
    judged = numbers(list(samples.held_out_batches(4)))
    trained = numbers(some(samples.batches(8, seed=1, step=0, augment=None), 5))
    assert len(samples) == 34
    assert len(judged) == 6
    assert sorted(judged + trained) == list(range(40))


def test_extra_samples_are_only_trained_on() -> None:
    """The samples of the data come as often as all the extra ones, and are alone judged on."""
    context = testing.context(data={"x": numbered(40)}, model=ROWS)
    added = numbered(100)
    added[:, 0] += 1000
    context.extra = open_dataset({"x": added}, input_specs(ROWS))
    samples = TrainingSamples.of(ROWS, context)
    judged = numbers(list(samples.held_out_batches(4)))
    trained = numbers(some(samples.batches(8, seed=1, step=0, augment=None), 26))
    own = [number for number in trained if number < 1000]
    assert max(judged) < 40
    assert not set(judged) & set(own)
    assert sorted(set(trained) - set(own)) == list(range(1000, 1100))
    assert (len(own), len(set(own))) == (102, 34), "three times each"
    assert len(samples) == 202


def test_extra_samples_are_part_of_what_results_are_kept_under() -> None:
    context = testing.context(data={"x": numbered(40)}, model=ROWS)
    before = context.identity
    context.extra = open_dataset({"x": numbered(3)}, input_specs(ROWS))
    assert context.identity != before


def test_training_resumes_where_it_was() -> None:
    samples = of(ROWS, {"x": numbered(30)})
    how = Augmentation(noise=0.1, mixup=0.5)
    whole = some(samples.batches(4, seed=3, step=0, augment=how), 12)
    for begun in (1, 7, 11):
        rest = some(of(ROWS, {"x": numbered(30)}).batches(4, 3, begun, how), 12 - begun)
        for one, other in zip(whole[begun:], rest, strict=True):
            assert torch.equal(one["x"], other["x"])


def test_a_single_sample_is_better_than_none() -> None:
    samples = of(ROWS, {"x": numbered(1)})
    assert numbers(some(samples.batches(8), 2)) == [0.0, 0.0]
    assert numbers(list(samples.held_out_batches())) == [0.0]


def test_samples_of_one_length_come_together() -> None:
    feeds = [{"ids": np.full((1, 3 + n % 3), n)} for n in range(24)]
    samples = of(SEQUENCES, feeds)
    assert not samples.stacked
    assert len(samples.groups) == 3
    steps = sum(-(-len(group) // 4) for group in samples.groups)
    batches = some(samples.batches(4, 0, 0, Augmentation.of("auto", SEQUENCES, samples)), steps)
    assert all(batch["ids"].dtype == torch.int64 for batch in batches)
    found = sorted(int(row[0]) for batch in batches for row in batch["ids"])
    judged = [int(row[0]) for batch in samples.held_out_batches(4) for row in batch["ids"]]
    assert sorted(found + judged) == list(range(24))


# -- memory --------------------------------------------------------------------------------


def test_more_than_memory_holds_is_thinned_evenly() -> None:
    data = {"x": numbered(100)}
    found = collect(ROWS, testing.context(data=data, model=ROWS), most_bytes=400)
    assert found.nbytes <= 400
    assert found.stride == 8
    kept = [float(found.feed(n)["x"][0, 0]) for n in range(len(found))]
    assert kept == [float(n) for n in range(0, 100, 8)]


@pytest.mark.parametrize(("count", "size"), [(6, 5), (20, 8), (300, 31), (2000, 64)])
def test_few_samples_make_small_batches(count: int, size: int) -> None:
    assert of(ROWS, {"x": numbered(count)}).batch_size(Program.of(ROWS)) == size


def test_a_larger_model_takes_more_memory(shared: Path) -> None:
    graph = ir.load(shared / "models" / "cifar10_resnet20_jpegft.onnx")
    one = step_bytes(graph, {"input": (1, 3, 32, 32)})
    both = step_bytes(graph, {"input": (2, 3, 32, 32)})
    assert 1 << 20 < one < 64 << 20
    assert both == pytest.approx(2 * one, rel=0.01)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("kws_dscnn_bn", (4, 1, 49, 10)), ("imagenet_proxyless_w025_r112", (2, 3, 112, 112))],
)
def test_a_step_takes_more_than_autograd_keeps(
    shared: Path, name: str, shape: tuple[int, ...]
) -> None:
    graph = ir.load(shared / "models" / f"{name}.onnx")
    program = Program.of(graph)
    weights = TrainableWeights.of(graph, program)
    kept: dict[int, torch.Tensor] = {}

    def keep(values: torch.Tensor) -> torch.Tensor:
        return kept.setdefault(values.untyped_storage().data_ptr(), values)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        program.run({"input": torch.zeros(shape)}, values=weights.values())
    found = sum(values.untyped_storage().nbytes() for values in kept.values())
    assert 1.5 * found < step_bytes(graph, {"input": shape}) < 5 * found


# -- together or one by one ----------------------------------------------------------------


def test_an_open_axis_that_is_time_is_no_batch() -> None:
    samples = of(MEAN, [{"x": numbered(4) + n} for n in range(6)])
    assert samples.stacked
    assert samples.batch_size(Program.of(MEAN)) == 1
    (batch,) = some(samples.batches(3), 1)
    assert batch["x"].shape[1:] == (4, 5)
    assert [feed["x"].shape for feed in samples.feeds(batch)] == [(4, 5)] * len(batch["x"])


def test_states_and_fixed_batches_are_run_one_by_one(shared: Path) -> None:
    graph = ir.load(shared / "models" / "dtln_model_1.onnx")
    feeds = testing.random_feeds(graph, count=8)
    samples = of(graph, feeds)
    assert samples.stacked
    assert Augmentation.of("auto", graph, samples).is_none
    (batch,) = some(samples.batches(4), 1)
    shapes = {name: tuple(values.shape) for name, values in batch.items()}
    assert shapes == {"input_2": (4, 1, 1, 257), "input_3": (4, 1, 2, 128, 2)}
    for feed in samples.feeds(batch):
        assert tuple(feed["input_3"].shape) == (1, 2, 128, 2)


def test_pictures_are_altered_without_being_asked(shared: Path) -> None:
    graph = ir.load(shared / "models" / "cifar10_resnet20_jpegft.onnx")
    with np.load(shared / "data" / "cifar10_dev.npz") as data:
        pixels = data["calib_x"][:60]
    scaled = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = scaled.transpose(0, 3, 1, 2).astype(np.float32)
    samples = of(graph, {"input": given})
    assert not samples.stacked
    assert samples.collection.nbytes == pixels.nbytes
    how = Augmentation.of("auto", graph, samples)
    assert how == Augmentation(flip=True, crop=4, mixup=1.0)
    (plain,) = some(samples.batches(51), 1)
    (changed,) = some(samples.batches(51, augment=how), 1)
    assert plain["input"].shape == changed["input"].shape == (51, 3, 32, 32)
    assert not torch.equal(plain["input"], changed["input"])
    assert {p.numpy().tobytes() for p in plain["input"]} <= {g.tobytes() for g in given}


# -- without data --------------------------------------------------------------------------


def test_samples_are_made_of_what_a_model_remembers(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_MADE", 60)
    graph = ir.load(shared / "models" / "cifar10_resnet20_unfolded_bn.onnx")
    context = testing.context(original=graph)
    samples = TrainingSamples.of(graph, context)
    assert samples.synthetic
    assert len(samples) == 51
    (batch,) = some(samples.batches(16), 1)
    assert tuple(batch["input"].shape[1:]) == (3, 32, 32)


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(DataError, match="there are none") as caught:
        TrainingSamples.of(ROWS, testing.context())
    assert caught.value.code == "G213"
    assert caught.value.hint
