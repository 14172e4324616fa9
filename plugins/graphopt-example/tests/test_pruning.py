"""The rule and the criterion, taken from the registry as graphopt itself takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.passes.prune.importance.base import ConsumerView, Evidence
from graphopt.passes.prune.removal.oracle import disagreement, silence_units
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.registry import Registry
from graphopt.testing import graph, random_feeds, run

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Consumer

MODEL = """
<ir_version: 10, opset_import: ["" : {opset}]>
g (float[2, 4, 8] x{inputs}) => (float[2, 3, 8, 2] y)
<float[6, 4, 1] first, float[3, 6, 1, 1] second, int64[1] last = {{3}}{constants}> {{
  a = Conv (x, first)
  b = Unsqueeze (a, last)
  [spectrum] c = {dft}
  y = Conv (c, second)
}}
"""
OLD = MODEL.format(opset=17, dft="DFT <axis = 2> (b)", constants="", inputs="")
NEW = MODEL.format(opset=20, dft="DFT (b, , axis)", constants=", int64 axis = {2}", inputs="")
DEFAULT = MODEL.format(opset=20, dft="DFT (b)", constants="", inputs="")
OPEN = MODEL.format(opset=20, dft="DFT (b, , axis)", constants="", inputs=", int64 axis")
MIXED = MODEL.format(opset=17, dft="DFT (b)", constants="", inputs="")


@pytest.fixture
def registry() -> Registry:
    found = Registry(plugins=["example-pruning"])
    assert found.provider_of("coupling", "DFT") == "example-pruning"
    assert found.provider_of("importance", "fluctuation") == "example-pruning"
    return found


@pytest.mark.parametrize("text", [OLD, NEW, DEFAULT])
def test_channels_go_through_the_transform(registry: Registry, text: str) -> None:
    rules = registry.coupling_rules()
    model = graph(text)
    ir.infer_shapes(model)
    coupling = couple(model, rules)
    (group,) = coupling.groups
    assert group.name == "first"
    assert group.size == 6
    cut = coupling.cut({"first": np.array([True, False, True, False, True, True])})
    pruned = model.copy()
    remove_units(pruned, cut.on(pruned), rules)
    ir.verify(pruned)
    silenced = silence_units(model, coupling, cut)
    (feed,) = random_feeds(model)
    assert disagreement(run(silenced, feed), run(pruned, feed)) < 1e-5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OPEN, "which axis DFT `spectrum` transforms is not known"),
        (MIXED, "DFT `spectrum` fixes it"),
    ],
)
def test_channels_stay_where_they_are_mixed(registry: Registry, text: str, reason: str) -> None:
    model = graph(text)
    ir.infer_shapes(model)
    coupling = couple(model, registry.coupling_rules())
    assert coupling.groups == ()
    assert reason in {why for _, why in coupling.why(model.value("a"), 1)}


def test_what_does_not_vary_matters_least(registry: Registry, consumer: Consumer) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 3)) * [1.0, 0.01, 1.0] + [0.0, 100.0, 0.0]
    view = ConsumerView(
        consumer,
        weight=np.array([[1.0], [1.0], [3.0]]),
        unit=np.arange(3),
        second=rows.T @ rows / len(rows),
        mean=rows.mean(axis=0),
        rows=len(rows),
    )
    scores = registry.importances()["fluctuation"]().scores(
        Evidence(3, (view,), ()), np.ones(3, dtype=bool)
    )
    assert scores.argsort().tolist() == [1, 0, 2]
    assert scores.sum() == pytest.approx(1.0)
    wanted = rows.var(axis=0) * [1.0, 1.0, 9.0]
    np.testing.assert_allclose(scores, wanted / wanted.sum(), rtol=1e-6)


@pytest.fixture
def consumer(registry: Registry) -> Consumer:
    model = graph(OLD)
    ir.infer_shapes(model)
    return couple(model, registry.coupling_rules()).groups[0].consumers[0]
