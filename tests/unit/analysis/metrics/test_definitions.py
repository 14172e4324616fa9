"""Every metric against its definition, spelt out sample by sample, on drawn outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis import metrics
from graphopt.analysis.metrics import BUILTIN_METRICS, Expects, Metric, as_metric, next_tokens

Array = np.ndarray[Any, Any]
seeds = st.integers(0, 10_000)
CLOSE = 1e-9
"""Relative: both sides are computed in float64, in another order."""


def scores(seed: int, samples: int = 7, classes: int = 9) -> tuple[list[Array], Array]:
    random = np.random.default_rng(seed)
    # Coarse values, so that there are ties.
    outputs = [np.round(random.normal(size=(1, classes)), 1).astype(np.float32) for _ in range(7)]
    return outputs[:samples], random.integers(0, classes, samples)


def softmax(values: Array) -> Array:
    raised = np.exp(values.astype(np.float64) - values.max())
    return np.asarray(raised / raised.sum())


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_top1_and_top5_count_the_best_scores(seed: int) -> None:
    outputs, labels = scores(seed)
    best = [np.argsort(-o[0], kind="stable") for o in outputs]
    one = [y in b[:1] for b, y in zip(best, labels, strict=True)]
    five = [y in b[:5] for b, y in zip(best, labels, strict=True)]
    assert metrics.top1(outputs, labels) == pytest.approx(100 * np.mean(one))
    assert metrics.top5(outputs, labels) == pytest.approx(100 * np.mean(five))
    assert metrics.top1(outputs, [int(o.argmax()) for o in outputs]) == 100


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans())
def test_cross_entropy_and_perplexity_of_a_decoder(seed: int, probabilities: bool) -> None:
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 11, (1, length)) for length in (3, 6, 2)]
    outputs = [random.normal(size=(1, i.shape[1], 11)).astype(np.float32) * 3 for i in ids]
    if probabilities:
        outputs = [np.stack([[softmax(row) for row in o[0]]]) for o in outputs]
    terms, right = [], []
    for o, i in zip(outputs, ids, strict=True):
        for t in range(i.shape[1] - 1):
            p = o[0, t].astype(np.float64) if probabilities else softmax(o[0, t])
            terms.append(-math.log(p[i[0, t + 1]]))
            right.append(o[0, t].argmax() == i[0, t + 1])
    expected = [next_tokens(i) for i in ids]
    close = 1e-5 if probabilities else CLOSE
    assert metrics.cross_entropy(outputs, expected) == pytest.approx(-np.mean(terms), rel=close)
    wanted = -math.exp(np.mean(terms))
    assert metrics.perplexity(outputs, expected) == pytest.approx(wanted, rel=close)
    assert metrics.next_token_top1(outputs, expected) == pytest.approx(100 * np.mean(right))


def test_tokens_that_are_padding_are_not_expected() -> None:
    ids, mask = np.array([[4, 5, 6, 0]]), np.array([[1, 1, 1, 0]])
    assert next_tokens(ids).tolist() == [[5, 6, 0, -100]]
    assert next_tokens(ids, mask).tolist() == [[5, 6, -100, -100]]


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_signals_by_their_formulas(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.random((4, 1, 5, 6))
    outputs = [y[None] + random.normal(size=(1, 1, 5, 6)) * 0.1 for y in labels]
    errors = [((o[0] - y) ** 2).mean() for o, y in zip(outputs, labels, strict=True)]
    wanted = np.mean([-10 * math.log10(e) for e in errors])
    assert metrics.psnr(outputs, labels) == pytest.approx(wanted, rel=CLOSE)
    eight_bit = [255 * o for o in outputs], np.round(255 * labels).astype(np.uint8)
    squares = [((o[0] - y) ** 2).mean() for o, y in zip(*eight_bit, strict=True)]
    wanted = np.mean([10 * math.log10(255**2 / e) for e in squares])
    assert metrics.psnr(*eight_bit) == pytest.approx(wanted, rel=CLOSE)
    assert metrics.negative_mse(outputs, labels) == pytest.approx(-np.mean(errors), rel=CLOSE)
    pooled = 10 * math.log10((labels**2).sum() / (np.mean(errors) * labels.size))
    assert metrics.snr(outputs, labels) == pytest.approx(pooled, rel=CLOSE)
    assert metrics.output_snr(outputs, [y[None] for y in labels]) == pytest.approx(
        pooled, rel=CLOSE
    )


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.1, 10))
def test_si_sdr_does_not_depend_on_the_scale(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    clean = random.normal(size=(3, 64))
    found = [c[None] + 0.3 * random.normal(size=(1, 64)) for c in clean]
    wanted = []
    for o, y in zip(found, clean, strict=True):
        target = (o[0] @ y) / (y @ y) * y
        wanted.append(10 * math.log10((target**2).sum() / ((o[0] - target) ** 2).sum()))
    assert metrics.si_sdr(found, clean) == pytest.approx(np.mean(wanted), rel=CLOSE)
    louder = metrics.si_sdr([scale * o for o in found], clean)
    assert louder == pytest.approx(np.mean(wanted), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_closeness_by_its_formulas(seed: int) -> None:
    originals, _ = scores(seed)
    outputs, _ = scores(seed + 1)
    same = [o.argmax() == w.argmax() for o, w in zip(outputs, originals, strict=True)]
    assert metrics.agreement(outputs, originals) == pytest.approx(100 * np.mean(same))
    kl, cosine = [], []
    for o, w in zip(outputs, originals, strict=True):
        p, q = softmax(w[0]), softmax(o[0])
        kl.append((p * np.log(p / q)).sum())
        one, other = o[0].astype(np.float64), w[0].astype(np.float64)
        cosine.append((one @ other) / (np.linalg.norm(one) * np.linalg.norm(other)))
    assert metrics.kl(outputs, originals) == pytest.approx(-np.mean(kl), rel=1e-6)
    assert metrics.cosine(outputs, originals) == pytest.approx(np.mean(cosine), rel=CLOSE)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_spearman_is_that_of_scipy_over_all_pairs(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(seed)
    originals = [random.normal(size=(1, 8)) for _ in range(12)]
    outputs = [o + 0.5 * random.normal(size=(1, 8)) for o in originals]

    def similarities(vectors: list[Array]) -> list[float]:
        units = [v[0] / np.linalg.norm(v[0]) for v in vectors]
        return [float(units[i] @ units[j]) for i in range(12) for j in range(i + 1, 12)]

    wanted = stats.spearmanr(similarities(outputs), similarities(originals)).statistic
    assert metrics.spearman(outputs, originals) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("metric", BUILTIN_METRICS, ids=lambda m: m.name)
def test_nothing_is_better_than_what_is_expected(metric: Any) -> None:
    """Larger is better: an output that is as it should be is at the top, noise lowers it."""
    random = np.random.default_rng(0)
    if metric.name in {"psnr", "snr", "si-sdr", "negative-mse"}:
        expected: list[Any] = list(random.random((6, 12)))
        perfect = [e[None] for e in expected]
    elif metric.expects is Expects.ORIGINAL:
        perfect = [random.normal(size=(1, 12)) for _ in range(6)]
        expected = perfect
    else:
        expected = [np.int64(i) for i in range(6)]
        perfect = [50.0 * np.eye(12)[[i]] for i in range(6)]
    top = metric(perfect, expected)
    best = {"points": 100, "dB": 100, "nats": 0}.get(metric.unit, 0)
    best = {"perplexity": -1, "cosine": 1, "spearman": 1}.get(metric.name, best)
    assert top == pytest.approx(best, abs=1e-9)
    noisy = [o + 400 * random.normal(size=o.shape) for o in perfect]
    assert metric(noisy, expected) < top


def test_positions_of_pictures_tokens_and_single_scores() -> None:
    random = np.random.default_rng(0)
    picture = random.normal(size=(1, 3, 4, 5))
    assert metrics.top1([picture], [picture[0].argmax(axis=0)]) == 100
    assert metrics.agreement([picture], [picture.copy()]) == 100
    flipped = picture.copy()
    flipped[0, :, 0, 0] = -flipped[0, :, 0, 0]
    assert metrics.agreement([flipped], [picture]) == pytest.approx(95)
    pooled = random.normal(size=(1, 7, 1, 1))
    assert metrics.top1([pooled], [int(pooled.argmax())]) == 100
    assert metrics.agreement([np.array([3])], [np.array([3])]) == 100
    with pytest.raises(ValueError, match="no classes"):
        metrics.agreement([np.array([[0.3]])], [np.array([[0.3]])])


def test_what_is_not_a_number_is_never_right() -> None:
    broken = np.full((1, 4), np.nan)
    assert metrics.top1([broken], [0]) == 0
    assert metrics.top5([broken], [0]) == 0
    assert metrics.agreement([broken], [np.eye(4)[[0]]]) == 0
    assert math.isnan(metrics.kl([broken], [np.eye(4)[[0]]]))
    assert math.isnan(metrics.psnr([broken], [np.zeros(4)]))


@pytest.mark.parametrize(
    ("labels", "says"),
    [([[0, 1, 2]], "3 labels"), ([0.5], "not class numbers"), ([9], "beyond the 4 classes")],
)
def test_labels_that_do_not_fit_are_told(labels: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        metrics.top1([np.eye(4)[[0]]], [np.asarray(y) for y in labels])


def test_functions_of_users_are_metrics() -> None:
    function = lambda outputs, labels: float(len(outputs))  # noqa: E731
    whole = as_metric("own", function)
    assert whole([np.zeros(1)] * 3, [0] * 3) == 3.0
    assert as_metric("top1", metrics.top1) is metrics.top1
    own = metrics.per_sample("off", lambda o, y: -abs(float(o.sum()) - y), "m")
    assert isinstance(own, Metric)
    assert own([np.ones(2), np.ones(3)], [1, 1]) == pytest.approx(-1.5)
