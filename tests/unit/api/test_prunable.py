"""What can be pruned from a model: simplified first, measured with data, explained by tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt.analysis.coupling import CouplingRule
from graphopt.errors import ModelError
from graphopt.registry import Registry
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.analysis.coupling import Links
    from graphopt.ir import Graph, Node

TEXT = """
g (float[N, 3, 8, 8] x) => (float[N, 10] y)
<float[16, 3, 3, 3] stem, float[16] scale, float[16] shift, float[16] mean, float[16] variance,
 float[16, 16, 3, 3] first, float[16, 16, 3, 3] second, float[10, 16] head> {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, stem)
  [norm] an = BatchNormalization (a, scale, shift, mean, variance)
  ar = Relu (an)
  [one] b = Conv <pads = [1, 1, 1, 1]> (ar, first)
  br = Relu (b)
  [two] c = Conv <pads = [1, 1, 1, 1]> (br, second)
  [join] d = Add (c, ar)
  dr = Relu (d)
  e = GlobalAveragePool (dr)
  f = Flatten (e)
  [head] y = Gemm <transB = 1> (f, head)
}
"""


def model() -> Graph:
    random = np.random.default_rng(1)
    shapes = {"stem": (16, 3, 3, 3), "first": (16, 16, 3, 3), "second": (16, 16, 3, 3)}
    weights: dict[str, Any] = {
        n: 0.1 * random.normal(size=s).astype(np.float32) for n, s in shapes.items()
    }
    return graph(TEXT, variance=np.full(16, 2.0, dtype=np.float32), **weights)


def samples(count: int = 20) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(count, 3, 8, 8)).astype(np.float32)}


def test_groups_branches_and_what_stays() -> None:
    found = graphopt.analyze_pruning(model(), target="x86-avx512-vnni")
    assert found.target == "x86-avx512-vnni"
    groups = {group.name: group for group in found.groups}
    assert [group.time for group in found.groups] == sorted(
        (group.time for group in found.groups), reverse=True
    )
    inner = groups["first"]
    assert (inner.units, inner.unit, inner.makers, inner.readers) == (
        *(16, "channel", ("one",), ("two",)),
    )
    assert (inner.half, inner.divergence) == (None, None)
    assert 0 < inner.time <= 1
    (stream,) = (group for name, group in groups.items() if name != "first")
    assert set(stream.makers) == {"stem", "two"}
    assert set(stream.readers) == {"one", "head"}
    (branch,) = found.branches
    assert (branch.name, branch.join) == ("c", "join")
    assert branch.kinds == ("drop", "lin1", "lin3", "merged1", "merged3")
    (stays,) = found.stays
    assert (stays.reason, stays.tensors) == ("it is an output of the model", ("head",))
    assert found.free == 1.0
    assert found.notices == ()


def test_the_model_is_simplified_first_and_not_changed() -> None:
    given = model()
    found = graphopt.analyze_pruning(given)
    assert given.nodes("BatchNormalization")
    tensors = {span.tensor for group in found.groups for span in group.spans}
    assert tensors.isdisjoint({"scale", "mean", "an_unknown"})
    with pytest.raises(ModelError, match="`scale` is gone once the model is simplified"):
        graphopt.explain_tensor(given, "scale")


def test_with_data_each_group_is_halved() -> None:
    found = graphopt.analyze_pruning(model(), data=samples())
    assert found.samples > 0
    for group in found.groups:
        assert group.half == 8
        assert group.divergence is not None
        assert 0 < group.divergence < 1
    again = graphopt.analyze_pruning(model(), data=samples())
    assert again.groups == found.groups


def test_too_few_samples_say_nothing_of_halves() -> None:
    found = graphopt.analyze_pruning(model(), data=samples(2))
    assert all(group.divergence is None for group in found.groups)
    assert found.samples == 0


def test_a_tensor_is_found_by_name_and_axes_count_from_the_back() -> None:
    whole = graphopt.explain_tensor(model(), "second")
    assert [axis.axis for axis in whole.axes] == [0, 1, 2, 3]
    last = graphopt.explain_tensor(model(), "second", axis=-3)
    assert last.axes == whole.axes[1:2]
    (part,) = last.axes[0].parts
    assert part.group == "first"


def test_what_is_not_there_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ModelError, match="no tensor `secnd`") as caught:
        graphopt.explain_tensor(model(), "secnd")
    assert caught.value.code == "G217"
    assert "did you mean `second`?" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="`second` has no axis 4: it has 4 axes") as caught:
        graphopt.explain_tensor(model(), "second", axis=4)
    assert caught.value.code == "G217"


def test_a_recipe_without_pruning_is_simplified_as_far_as_it_is_exact() -> None:
    found = graphopt.analyze_pruning(model(), recipe="lossless")
    assert {group.name for group in found.groups} >= {"first"}


def test_a_rule_that_fails_is_named_where_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(node: Node, links: Links) -> None:
        raise OSError("no")

    rules = dict(Registry(plugins=()).coupling_rules()) | {"Relu": CouplingRule("Relu", fails)}
    monkeypatch.setattr(Registry, "coupling_rules", lambda _: rules)
    found = graphopt.analyze_pruning(model())
    (failed,) = (stays for stays in found.stays if "first" in stays.tensors)
    assert failed.reason == "the coupling rule `Relu` failed at `ar`: OSError: no"
    assert failed.alike == 1
    assert found.groups == ()


def test_a_model_of_the_collection(shared: Path) -> None:
    found = graphopt.analyze_pruning(shared / "models" / "kws_dscnn_bn.onnx")
    assert found.groups
    assert found.branches == ()
    assert 0.5 < found.free <= 1.0
