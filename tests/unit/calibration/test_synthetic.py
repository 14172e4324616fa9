"""Synthetic samples: what is drawn, what is chosen, and for which models there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir, testing
from graphopt.calibration.synthetic import ORIGIN, synthetic_dataset
from graphopt.calibration.synthetic.first_layer import fit_input
from graphopt.calibration.synthetic.images import draw, leaves, noise
from graphopt.calibration.synthetic.statistics import (
    choose_together,
    features,
    mismatch,
    remembered_statistics,
)
from graphopt.runtime import IntermediateTensors

if TYPE_CHECKING:
    from graphopt.ir import Graph

SIZE = 24
MIXING = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.8, 0.3, 0.5]])
MEANS = np.array([3.0, -1.0, 0.5])


def photographs(count: int, seed: int) -> Any:
    """Return images of known means and covariance MIXING MIXING^T, amplitude 1/f."""
    random = np.random.default_rng(seed)
    made = np.stack([noise(random, 3, SIZE, SIZE, 1.25) for _ in range(count)])
    mixed = np.einsum("ab,nbhw->nahw", MIXING, made) + MEANS[None, :, None, None]
    return mixed.astype(np.float32)


TWO_LAYERS = f"""
    g (float[N, 3, {SIZE}, {SIZE}] x) => (float[N, 8, {SIZE}, {SIZE}] y)
       <float[16,3,3,3] w1, float[8,16,3,3] w2, float[16] one, float[16] zero, float[16] m1,
        float[16] v1, float[8] one2, float[8] zero2, float[8] m2, float[8] v2>
    {{
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        b = BatchNormalization (a, one, zero, m1, v1)
        c = Relu (b)
        d = Conv <pads = [1, 1, 1, 1]> (c, w2)
        y = BatchNormalization (d, one2, zero2, m2, v2)
    }}
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Return a model whose two normalizations remember ``photographs``."""
    random = np.random.default_rng(5)
    constants: dict[str, Any] = {
        "w1": random.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "w2": random.standard_normal((8, 16, 3, 3)).astype(np.float32) / 8,
    }
    for suffix, count in (("", 16), ("2", 8)):
        constants |= {f"one{suffix}": np.ones(count, np.float32)}
        constants |= {f"zero{suffix}": np.zeros(count, np.float32)}
    for place, count in (("1", 16), ("2", 8)):
        constants |= {f"m{place}": np.zeros(count, np.float32)}
        constants |= {f"v{place}": np.ones(count, np.float32)}
    feed = {"x": photographs(64, seed=9)}
    for tensor, place in (("a", "1"), ("d", "2")):
        # The second one remembers what comes behind the first one as it then is.
        source = IntermediateTensors(testing.graph(TWO_LAYERS, **constants), [tensor])
        ((_, values),) = source.tensors(feed)
        constants[f"m{place}"] = values.mean(axis=(0, 2, 3))
        constants[f"v{place}"] = values.var(axis=(0, 2, 3))
    made = testing.graph(TWO_LAYERS, **constants)
    ir.infer_shapes(made)
    return made


def white(count: int) -> Any:
    """Return feeds of white noise."""
    random = np.random.default_rng(1)
    shape = (1, 3, SIZE, SIZE)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def test_the_first_layer_tells_the_means_and_colours_of_the_inputs(graph: Graph) -> None:
    found = fit_input(graph, remembered_statistics(graph), (SIZE, SIZE))
    assert found is not None
    # The borders that the equations neglect are 15 % of the places here.
    np.testing.assert_allclose(found.mean, MEANS, atol=0.35)
    deviations = np.sqrt(np.diag(found.covariance))
    np.testing.assert_allclose(deviations, np.linalg.norm(MIXING, axis=1), rtol=0.3)
    assert 0.75 <= found.exponent <= 1.75


def test_samples_have_the_statistics_that_the_model_remembers(graph: Graph) -> None:
    dataset = synthetic_dataset(graph, 0, 24)
    assert dataset is not None
    assert len(dataset) == 24
    assert dataset.origin == ORIGIN
    assert dataset.labels() is None
    remembered = remembered_statistics(graph)
    found = mismatch(features(graph, remembered, dataset))
    assert found / len(remembered) == pytest.approx(dataset.mismatch, rel=1e-3)
    assert found < 0.05 * mismatch(features(graph, remembered, white(24)))


def test_the_same_seed_gives_the_same_samples(graph: Graph) -> None:
    digests = [d.digest for s in (0, 0, 1) if (d := synthetic_dataset(graph, s, 4)) is not None]
    assert digests[0] == digests[1] != digests[2]


def test_the_graph_is_left_alone(graph: Graph) -> None:
    before = ir.structural_hash(graph)
    synthetic_dataset(graph, 0, 2)
    assert ir.structural_hash(graph) == before


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu (x) }",
        """g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) <float[3] s, float[3] v>
           { y = BatchNormalization (x, s, s, s, v) }""",
        """g (int64[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) <float[3] s, float[3] v>
           { a = Cast <to = 1> (x)  y = BatchNormalization (a, s, s, s, v) }""",
        """g (float[N, 3, 8, 8] x, float[N, 3, 8, 8] z) => (float[N, 3, 8, 8] y)
           <float[3] s, float[3] v>
           { a = Add (x, z)  y = BatchNormalization (a, s, s, s, v) }""",
    ],
    ids=["no normalization", "unknown size", "integers", "two inputs"],
)
def test_models_that_tell_nothing_have_no_samples(text: str) -> None:
    three: dict[str, Any] = {"s": np.ones(3, np.float32), "v": np.ones(3, np.float32)}
    made = testing.graph(text, **(three if "float[3] s" in text else {}))
    assert synthetic_dataset(made, 0, 4) is None


@pytest.mark.parametrize(
    ("shape", "feed"),
    [
        ("2, 3, 8, 8", (2, 3, 8, 8)),
        ("N, 3, 40", (1, 3, 40)),
        ("N, 3", (1, 3)),
        ("N, 3, 1, 9", (1, 3, 1, 9)),
    ],
)
def test_inputs_of_other_forms(shape: str, feed: tuple[int, ...]) -> None:
    mean = np.array([5.0, -5.0, 0.0], np.float32)
    made = testing.graph(
        f"""g (float[{shape}] x) => (float[{shape}] y)
            <float[3] s, float[3] b, float[3] m, float[3] v>
            {{ y = BatchNormalization (x, s, b, m, v) }}""",
        s=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
        m=mean,
        v=np.array([4.0, 1.0, 0.25], np.float32),
    )
    ir.infer_shapes(made)
    dataset = synthetic_dataset(made, 0, 32)
    assert dataset is not None
    values = np.concatenate([sample["x"] for sample in dataset])
    assert values.dtype == np.float32
    assert values.shape == (32 * feed[0], *feed[1:])
    along = tuple(axis for axis in range(values.ndim) if axis != 1)
    np.testing.assert_allclose(values.mean(axis=along), mean, atol=0.6)


def test_a_normalization_in_training_mode_remembers_nothing() -> None:
    made = testing.graph(
        """g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) <float[3] s, float[3] v>
           { y, p, q = BatchNormalization <training_mode = 1> (x, s, s, s, v) }""",
        s=np.ones(3, np.float32),
        v=np.ones(3, np.float32),
    )
    assert remembered_statistics(made) == ()


def test_chosen_together_means_more_than_chosen_alone() -> None:
    # Opposite samples cancel; the one that is nearest to zero by itself has no partner.
    rows = np.array([[2.0, 0], [0, 1.0], [-2.0, 0], [5.0, 5.0]], np.float32)
    assert list(choose_together(rows, 3)) == [0, 1, 2]
    assert list(choose_together(rows, 9)) == [0, 1, 2, 3]


def test_noise_falls_with_its_exponent() -> None:
    image = noise(np.random.default_rng(0), 64, 32, 32, 1.5)
    assert np.square(image).mean() == pytest.approx(1.0)
    power = np.square(np.abs(np.fft.rfft2(image))).mean(axis=0)
    slope = np.log(power[0, 8] / power[0, 2]) / np.log(4)
    assert slope == pytest.approx(-3.0, abs=0.5)


@pytest.mark.parametrize("size", [(1, 1), (1, 16), (3, 2), (40, 24)])
def test_images_of_any_size_are_finite(size: tuple[int, int]) -> None:
    for seed in range(8):
        assert np.isfinite(draw(np.random.default_rng(seed), 2, *size)).all()
        assert leaves(np.random.default_rng(seed), 2, *size).shape == (2, *size)
