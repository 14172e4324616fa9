"""Which metric judges, told by labels and outputs; what cannot be judged is told as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError, RecipeError
from graphopt.pipeline.validation import Validation, name_of, open_guard
from graphopt.pipeline.validation.choice import chosen_metric
from graphopt.recipe import Limits
from graphopt.runtime import open_session
from graphopt.testing import graph
from tests.unit.pipeline.validation.classifier import lookup

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)


def drawn(*shape: int, count: int = 6) -> list[Array]:
    return [RANDOM.normal(size=shape).astype(np.float32) for _ in range(count)]


def softmax(values: Array) -> Array:
    raised = np.exp(values)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def chosen(outputs: list[Array], feeds: Any = None, labels: Any = None, **more: Any) -> str:
    feeds = feeds or [{"x": np.zeros((1, 3), np.float32)}] * len(outputs)
    seen = list(zip(feeds, outputs, strict=True))
    found = None if labels is None else np.asarray(labels)
    return chosen_metric(None, lookup, found, seen, "data", **more).name


@pytest.mark.parametrize(
    "outputs",
    [
        drawn(1, 10),
        drawn(1, 10, 1, 1),
        [softmax(o) for o in drawn(1, 4)],
        [o.argmax(axis=1) for o in drawn(1, 10)],
    ],
    ids=["logits", "pooled", "probabilities", "integers"],
)
def test_decisions_are_judged_by_agreement(outputs: list[Array]) -> None:
    assert chosen(outputs) == "agreement"


@pytest.mark.parametrize(
    "outputs",
    [
        drawn(1, 1, 12, 12),
        drawn(1, 1, 257),
        [o / np.linalg.norm(o) for o in drawn(1, 32)],
        [1 / (1 + np.exp(-o)) for o in drawn(1, 32)],
        drawn(1, 1),
        [softmax(o) for o in drawn(1, 4420, 2)],
    ],
    ids=["picture", "frame", "unit vectors", "mask", "one number", "detector"],
)
def test_what_decides_nothing_is_an_error_only_where_a_drop_is_stated(outputs: Any) -> None:
    with pytest.raises(DataError, match="does not decide between classes") as caught:
        chosen(outputs)
    assert caught.value.code == "G216"
    assert "--min-snr" in str(caught.value.hint)
    assert chosen(outputs, stated=False) == "output-snr"


def test_a_signal_as_long_as_its_input_is_no_decision() -> None:
    feeds = [{"x": o} for o in drawn(1, 16)]
    with pytest.raises(DataError, match="does not decide"):
        chosen(drawn(1, 16), feeds)
    assert chosen(drawn(1, 15), feeds) == "agreement"


def test_labels_say_what_judges() -> None:
    assert chosen(drawn(1, 10), labels=[1, 2, 3, 4, 5, 9]) == "top1"
    for labels in ([1, 2, 3, 4, 5, 10], np.zeros((6, 10)), np.zeros(6)):
        with pytest.raises(RecipeError, match="not the class numbers") as caught:
            chosen(drawn(1, 10), labels=labels)
        assert caught.value.code == "G103"


VOCABULARY = 12
DECODER = f"""m (int64[N, T] ids) => (float[N, T, {VOCABULARY}] y)
  <float[{VOCABULARY}, {VOCABULARY}] w> {{ y = Gather <axis = 0> (w, ids) }}"""


def decoder(shift: int) -> Any:
    """A model that always predicts the id plus ``shift``."""
    return open_session(
        graph(DECODER, w=np.roll(np.eye(VOCABULARY, dtype=np.float32) * 9, shift, axis=1))
    )


def counting(count: int, length: int = 7) -> Array:
    starts = np.arange(count)[:, None]
    return ((starts + np.arange(length)) % VOCABULARY).astype(np.int64)


def judged(arrays: dict[str, Array], session: Any, **limits: Any) -> Any:
    specs = {"ids": InputSpec("ids", ("N", "T"), "int64")}
    other = {"ids": counting(2, 3)}
    given = Validation(open_dataset(arrays, specs), open_dataset(other, specs))
    return open_guard(Limits(max_drop="1%", **limits), lookup, given, session)


def test_a_decoder_is_judged_by_the_next_of_its_own_tokens() -> None:
    ids = counting(30)
    guard = judged({"ids": ids}, decoder(1))
    assert guard.metric.name == "next-token-top1"
    assert guard.original.record.value == 100
    assert guard.score(decoder(2)).record.value == 0
    # Labels that are the inputs are moved by one; others are taken as they are.
    same = judged({"ids": ids, "labels": ids}, decoder(1))
    assert same.original.record.value == 100
    following = judged({"ids": ids, "labels": (ids + 1) % VOCABULARY}, decoder(1))
    assert following.original.record.value == 100
    entropy = judged({"ids": ids}, decoder(1), metric="cross-entropy").original.record
    wanted = np.log(np.exp(9) / (np.exp(9) + VOCABULARY - 1))
    assert entropy.value == pytest.approx(wanted, rel=1e-6)


def test_a_model_that_fills_in_tokens_is_not_judged_by_the_next_one() -> None:
    with pytest.raises(DataError, match="does not decide"):
        judged({"ids": counting(30)}, decoder(0))


def test_a_stated_metric_needs_what_it_needs() -> None:
    with pytest.raises(DataError, match="`psnr` is stated, and the data has no labels"):
        judged({"ids": counting(9)}, decoder(1), metric="psnr")
    with pytest.raises(RecipeError, match="unknown metric `nonsense`"):
        judged({"ids": counting(9)}, decoder(1), metric="nonsense")
    assert judged({"ids": counting(9)}, decoder(1), metric="agreement").metric.name == "agreement"
    with pytest.raises(DataError, match=r"cannot be taken .* cannot reshape"):
        judged({"ids": counting(9), "labels": np.zeros((9, 3))}, decoder(1), metric="negative-mse")


def test_metrics_of_callers_have_names() -> None:
    def top_two(outputs: Any, labels: Any) -> float:
        return 0.0

    assert name_of(top_two) == "top-two"
    assert name_of(lookup("psnr")) == "psnr"
    assert name_of(lambda o, y: 0.0) == "lambda"
