"""The helpers that plugin authors test with."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from graphopt import testing
from graphopt.errors import ModelError, TargetError
from graphopt.testing import (
    assert_same_outputs,
    context,
    graph,
    named_target,
    random_feeds,
    run,
    run_cli,
    values_of,
)

TEXT = "m (float[N, 2] x) => (float[N, 2] y) <float[2] k> { y = Add (x, k) }"


def test_text_without_a_header_gets_one() -> None:
    assert graph(TEXT).opset == 17
    assert graph(TEXT, opset=13).opset == 13
    assert graph(f'<ir_version: 9, opset_import: ["" : 21]>\n{TEXT}').opset == 21


def test_declared_constants_hold_given_or_reproducible_values() -> None:
    given = np.array([1.0, 2.0], np.float32)
    assert np.array_equal(graph(TEXT, k=given).value("k").array(), given)
    first = graph(TEXT).value("k").array()
    assert np.array_equal(first, graph(TEXT).value("k").array())
    assert np.array_equal(first, values_of("k", (2,)))
    assert not np.array_equal(first, values_of("j", (2,)))


def test_values_are_exact_in_float32_and_bounded() -> None:
    values = values_of("w", (20, 20))
    assert values.shape == (20, 20)
    assert np.array_equal(values * 64, np.rint(values * 64))
    assert -2.0 <= values.min() < -1.5
    assert 1.5 < values.max() < 2.0


@pytest.mark.parametrize(
    ("text", "code"),
    [("nonsense", "G202"), ("m (float[2] x) => (float[2] y) { y = Neg (z) }", "G205")],
)
def test_what_is_no_graph_is_an_error(text: str, code: str) -> None:
    with pytest.raises(ModelError) as raised:
        graph(text)
    assert raised.value.code == code


def test_comparison_has_no_default_tolerance() -> None:
    parameters = inspect.signature(assert_same_outputs).parameters
    for name in ("rtol", "atol"):
        assert parameters[name].default is inspect.Parameter.empty
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_comparison_sees_values_names_types_shapes_and_missing_feeds() -> None:
    a = graph(TEXT)
    feeds = random_feeds(a, count=2)
    assert_same_outputs(a, a.copy(), feeds, rtol=0.0, atol=0.0)
    others: dict[str, Any] = {
        "value": graph(TEXT, k=a.value("k").array() + np.float32(0.1)),
        "name": graph(TEXT.replace("y", "z")),
        "type": graph("m (float[N, 2] x) => (double[N, 2] y) { y = Cast <to = 11> (x) }"),
        "shape": graph("m (float[N, 2] x) => (float[M] y) <int64[1] s = {-1}> "
                       "{ y = Reshape (x, s) }"),
    }  # fmt: skip
    for other in others.values():
        with pytest.raises(AssertionError):
            assert_same_outputs(a, other, feeds, rtol=0.01, atol=0.01)
    assert_same_outputs(a, others["value"], feeds, rtol=0.0, atol=0.2)
    with pytest.raises(ValueError, match="no feeds"):
        assert_same_outputs(a, a, [], rtol=0.0, atol=0.0)


def test_feeds_follow_types_and_sizes() -> None:
    model = graph("m (float[N, 2] x, bool[3] b, int64[N] i) => (float[N, 2] y) { y = Neg (x) }")
    (feed,) = random_feeds(model, size=5)
    assert {k: (v.dtype.name, v.shape) for k, v in feed.items()} == {
        "x": ("float32", (5, 2)), "b": ("bool", (3,)), "i": ("int64", (5,)),
    }  # fmt: skip


def test_run_returns_outputs() -> None:
    (y,) = run(graph(TEXT, k=[1, 2]), {"x": np.zeros((1, 2), np.float32)})
    assert y.tolist() == [[1.0, 2.0]]


def test_targets_by_name_and_alias() -> None:
    assert named_target("arm").name == "arm64-dotprod"
    assert named_target("host").is_host
    assert context(target=named_target("wasm")).target.name == "wasm"
    with pytest.raises(TargetError):
        named_target("amr")


def test_the_command_line_runs_inside_the_process() -> None:
    done = run_cli("targets", "arm", "--format", "json")
    assert done.code == 0
    assert done.json["name"] == "arm64-dotprod"
    failed = run_cli("targets", "amr")
    assert (failed.code, failed.out) == (2, "")
    assert "error[G501]" in failed.err


def test_everything_public_is_documented() -> None:
    for name, value in vars(testing).items():
        if getattr(value, "__module__", None) == testing.__name__ and not name.startswith("_"):
            assert inspect.getdoc(value), name
