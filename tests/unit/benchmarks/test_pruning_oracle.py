"""The scoreboard of pruning: what it removes, what it counts, and that it sees what is wrong."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.analysis.coupling import Axis, CouplingRule, Links, couple
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt import ir

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


CHAIN = """
g (float[1,3,8,8] x) => (float[1,2,8,8] y)
<float[6,3,1,1] first, float[6] bias, float[2,6,1,1] second> {
  a = Conv(x, first, bias)
  b = Relu(a)
  y = Conv(b, second)
}
"""

STREAM = """
g (float[1,4,8] x) => (float[1,4,3] y)
<float[8,6] enter, float[6,5] up, float[5,6] down, float[6] scale, float[6] shift,
 float[6,3] leave> {
  a = MatMul(x, enter)
  b = MatMul(a, up)
  c = Relu(b)
  d = MatMul(c, down)
  e = Add(a, d)
  f = LayerNormalization<axis=-1>(e, scale, shift)
  y = MatMul(f, leave)
}
"""


def groups(load: Any, text: str) -> tuple[ir.Graph, Any]:
    made = load("pruning_trial").prepared(graph(text))
    return made, couple(made, load("pruning_trial").RULES)


def test_every_cell_loses_the_same_number_and_keeps_one(load: Any) -> None:
    made, coupling = groups(load, CHAIN)
    (group,) = coupling.groups
    halves = type(group)(**{**group.__dict__, "cells": np.array([0, 0, 0, 0, 1, 1])})
    for ratio, lost in ((0.1, 1), (0.5, 1), (0.9, 1)):
        keep = load("pruning_trial").draw(halves, ratio, seed=0)
        assert np.bincount(halves.cells, weights=~keep).tolist() == [lost, lost]
    assert (~load("pruning_trial").draw(group, 0.5, seed=0)).sum() == 3
    assert made.opset == 17


def test_the_choice_depends_on_seed_and_group_alone(load: Any) -> None:
    (group,) = groups(load, CHAIN)[1].groups
    draw = load("pruning_trial").draw
    assert np.array_equal(draw(group, 0.5, 3), draw(group, 0.5, 3))
    assert any(not np.array_equal(draw(group, 0.5, 3), draw(group, 0.5, s)) for s in range(9))


def test_an_exact_model_passes_and_its_shares_are_counted(load: Any) -> None:
    score = load("pruning_trial").judge(lambda: graph(CHAIN), "chain")
    assert score.passes
    assert score.groups == (1, 1)
    assert score.parameters == 18 + 6 + 12
    assert score.reach == (1.0, 1.0)
    # Six channels of `first` can go; the two of `second` are the output.
    assert score.channels == (0.75, 0.75)
    assert score.frozen[0][:2] == ("it is an output of the model", 0.25)
    half = score.trials[-1]
    assert half.removed == pytest.approx(0.5)
    assert half.effect > 0.01
    assert half.disagreement <= 1e-5


def test_a_norm_is_compared_with_one_over_what_is_left(load: Any) -> None:
    score = load("pruning_trial").judge(lambda: graph(STREAM), "stream")
    assert score.passes, score.trials
    assert score.groups == (2, 1)
    for trial in score.trials:
        assert trial.disagreement_all <= 1e-5
        assert trial.removed_all > trial.removed


MEANS = """
g (float[1,4,8] x) => (float[1,4,3] y)
<float[8,6] enter, float[6,3] leave, float[1] small> {
  a = MatMul(x, enter)
  s = Mul(a, a)
  m = ReduceMean<axes=[-1]>(s)
  p = Add(m, small)
  r = Sqrt(p)
  n = Div(a, r)
  y = MatMul(n, leave)
}
"""


def test_a_norm_that_is_spelled_out_is_compared_the_same_way(load: Any) -> None:
    constants = {"small": np.array([1e-3], np.float32)}
    score = load("pruning_trial").judge(lambda: graph(MEANS, **constants), "means")
    assert score.passes, score.trials
    assert score.groups == (1, 0)
    assert all(trial.disagreement_all is not None for trial in score.trials)


def test_a_rule_that_forgets_a_tie_does_not_pass(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reverse(node: ir.Node, links: Links) -> None:
        source, made = node.inputs[0], node.outputs[0]
        assert source is not None
        backwards = np.arange(6)[::-1]
        links.tie(Axis(source, 1), Axis(made, 1), backwards)
        for position in (0, 2, 3):
            links.tie(Axis(source, position), Axis(made, position))

    trial = load("pruning_trial")
    wrong = {**trial.RULES, "Relu": CouplingRule("Relu", reverse)}
    monkeypatch.setattr(trial, "RULES", wrong)
    score = trial.judge(lambda: graph(CHAIN), "chain")
    assert not score.passes
    assert any(t.error.startswith("outputs differ") for t in score.trials)


def test_an_exception_is_a_result(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = load("pruning_trial")

    def fail(*_: object) -> None:
        raise ValueError("no such axis")

    monkeypatch.setattr(trial, "remove_units", fail)
    score = trial.judge(lambda: graph(CHAIN), "chain")
    assert [t.error for t in score.trials] == ["ValueError: no such axis"] * 3
    assert trial.to_json(score)["passes"] is False


def test_what_enters_a_softmax_is_compared_too(load: Any) -> None:
    made, coupling = groups(
        load, CHAIN.replace("y = Conv(b, second)", "c = Conv(b, second)\n  y = Softmax<axis=1>(c)")
    )
    keep = np.array([True, False, True, True, True, True])
    assert load("pruning_trial").revealed(made, coupling.cut({"first": keep})) == ["c"]


def test_inputs_suit_what_reads_them(load: Any) -> None:
    made = graph("""
    g (int64[1,5] ids, int64[1,5] attention_mask, float[1,3,N,16] image) => (float[1,5,2] y)
    <float[7,2] table> { y = Gather(table, ids) }
    """)
    feed = load("pruning_trial").random_feed(made, np.random.default_rng(0))
    assert feed["ids"].max() < 7
    assert feed["attention_mask"].tolist() == [[1] * 5]
    assert feed["image"].shape == (1, 3, 4, 16)
    assert feed["image"].dtype == np.float32


def test_weights_of_the_light_models_are_drawn_by_role(load: Any) -> None:
    made = graph(
        """
        <ir_version: 3, opset_import: ["" : 9]>
        g (float[1,2,4,4] x, int64[4] shape, float[3] s, float[3] b, float[3] m, float[3] v)
          => (float[1,3,4,4] y)
        <int64[4] shape = {3, 2, 1, 1}, float[3] s = {1., 1., 1.}, float[3] b = {1., 1., 1.},
         float[3] m = {1., 1., 1.}, float[3] v = {1., 1., 1.}> {
          w = ConstantOfShape(shape)
          c = Conv(x, w)
          y = BatchNormalization(c, s, b, m, v)
        }
        """
    )
    load("pruning_models").draw_weights(made, seed=0)
    assert [value.name for value in made.inputs] == ["x"]
    weight = made.value("w")
    assert weight.is_constant
    assert weight.array().shape == (3, 2, 1, 1)
    assert np.unique(weight.array()).size == 6
    assert (made.value("v").array() > 0).all()
    assert np.abs(made.value("b").array()).max() < 1
    again = made.copy()
    load("pruning_models").draw_weights(again, seed=0)
    assert np.array_equal(again.value("s").array(), made.value("s").array())


def test_an_export_is_made_once_and_its_failure_kept(load: Any, tmp_path: Path) -> None:
    export_once = load("torchvision_models").export_once
    script = tmp_path / "script.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(sys.argv[1])")
    output = tmp_path / "kept" / "net" / "net.onnx"
    assert export_once(script, tmp_path, "net", output) == ""
    assert output.read_text() == "net"
    script.write_text("raise SystemExit('no such network')")
    assert export_once(script, tmp_path, "net", output) == ""
    other = output.with_name("other.onnx")
    assert export_once(script, tmp_path, "other", other) == "no such network"
    script.write_text("")
    assert export_once(script, tmp_path, "other", other) == "no such network"
    assert sorted(p.name for p in output.parent.iterdir()) == ["net.onnx", "other.failed"]


def test_a_changed_script_makes_its_models_again(load: Any, tmp_path: Path) -> None:
    kept_at = load("torchvision_models").kept_at
    script = tmp_path / "script.py"
    script.write_text("a")
    before = kept_at(tmp_path, "torchvision", script, "net")
    script.write_text("b")
    assert kept_at(tmp_path, "torchvision", script, "net") != before


def test_the_list_is_that_of_the_peer(load: Any) -> None:
    models = load("torchvision_models")
    assert len(models.NAMES) == len(set(models.NAMES)) == 85
    assert len(models.FAILED_BY_TORCH_PRUNING) == 8


def test_patterns_choose_models_and_lines_say_what_failed(load: Any) -> None:
    oracle = load("pruning_oracle")
    assert [m.key for m in oracle.chosen(["torchvision/resnet18"])] == ["torchvision/resnet18"]
    assert {m.family for m in oracle.chosen(["transformers"])} == {"transformers"}
    score = load("pruning_trial").to_json(
        load("pruning_trial").judge(lambda: graph(CHAIN), "chain", (0.5,))
    )
    assert " pass  75.0%" in oracle.line("a/b", score)
    assert "FAULT out of memory" in oracle.line("a/b", {"fault": "out of memory"})
    found = {"light/a": {"passes": True}, "light/b": {"passes": False}}
    assert oracle.summary(found)["light"] == "1 of 2"
