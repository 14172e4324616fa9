"""What passes are given: ranges once per graph, explanations, execution as written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.testing import context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph

TEXT = """m (float[N, 4] x) => (float[N, 4] y) { a = Relu (x)
  [last] y = Neg (a) }"""


@pytest.fixture
def model() -> Graph:
    return graph(TEXT)


def test_ranges_are_those_of_the_data(model: Graph) -> None:
    feeds = random_feeds(model, count=5)
    found = context(data=feeds, model=model).ranges(model, ["x", "a", "y", "nosuch"][:3])
    everything = np.concatenate([f["x"].ravel() for f in feeds])
    assert (found["x"].low, found["x"].high) == (everything.min(), everything.max())
    assert (found["a"].low, found["a"].high) == (0.0, everything.max())
    assert found["y"].high == 0.0
    assert found["x"].samples == 5


def test_the_data_runs_once_for_a_graph(model: Graph) -> None:
    asked: list[int] = []
    feeds = random_feeds(model, count=3)

    def samples() -> object:
        asked.append(1)
        return iter(feeds)

    made = context(data=samples, model=model)
    first = made.ranges(model, ["x", "a"])
    reads = len(asked)
    assert made.ranges(model.copy(), ["a"])["a"] == first["a"]
    assert len(asked) == reads


def test_without_data_there_are_no_ranges(model: Graph) -> None:
    made = context()
    assert not made.has_data
    assert made.ranges(model, ["x"]) == {}


def test_given_ranges_win(model: Graph) -> None:
    made = context(ranges={"a": (0.0, 2.0)})
    assert made.has_data
    found = made.ranges(model, ["a", "x"])
    assert list(found) == ["a"]
    assert (found["a"].low, found["a"].high) == (0.0, 2.0)


def test_data_needs_the_model_that_it_is_for() -> None:
    with pytest.raises(ValueError, match="model"):
        context(data=[{"x": np.zeros(1)}])


def test_the_last_word_about_a_node_counts(model: Graph) -> None:
    made = context()
    node = model.nodes("Neg")[0]
    made.explain(node, "first")
    made.explain(node, "second")
    assert made.reasons == {"last": "second"}
    with made.without_explanations():
        made.explain(node, "a trial")
    assert made.reasons == {"last": "second"}


def test_run_executes_the_graph_as_written(model: Graph) -> None:
    feed = random_feeds(model)[0]
    (a, y) = context().run(_with_output(model, "a"), feed, ["a", "y"])
    assert np.array_equal(a, np.maximum(feed["x"], 0))
    assert np.array_equal(y, -a)


def _with_output(model: Graph, name: str) -> Graph:
    made = model.copy()
    made.set_outputs([*made.outputs, made.value(name)])
    return made


def test_remembered_values_are_made_once() -> None:
    made = context()
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        return 7

    assert made.remember("key", make) == made.remember("key", make) == 7
    assert len(calls) == 1


def test_progress_is_told_step_by_step() -> None:
    told: list[tuple[str, int, int]] = []

    class Watch:
        def progress(self, label: str, done: int, total: int) -> None:
            told.append((label, done, total))

    made = context()
    made.observe = Watch()  # type: ignore[assignment]
    assert list(made.progress("ab", 2, "placing")) == ["a", "b"]
    assert told == [("placing", 1, 2), ("placing", 2, 2)]


def test_what_is_fitted_is_given_other_samples_and_explains_in_the_same_place(model: Graph) -> None:
    feeds = random_feeds(model, count=6)
    made, more = context(data=feeds[:2], model=model), context(data=feeds, model=model)
    assert made.fitting is made
    made.fitted = more.dataset
    fitting = made.fitting
    seen = {sample for sample, _, _ in fitting.stream(model, ["x"])}
    assert seen == set(range(6))
    assert fitting.original is made.original
    largest = max(float(np.max(feed["x"])) for feed in feeds[:2])
    fitting.ranges(model, ["x"])
    assert made.ranges(model, ["x"])["x"].high == pytest.approx(largest)
    fitting.explain(model.nodes("Relu")[0], "because")
    assert list(made.reasons.values()) == ["because"]
