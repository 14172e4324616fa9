"""What is taught: kinds of outputs, losses, and features that both models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program
from graphopt_torch.samples import TrainingSamples
from graphopt_torch.teaching import Kind, Objective
from graphopt_torch.teaching.channels import kept_channels, narrowed_axis, strangeness
from graphopt_torch.teaching.features import block_ends
from graphopt_torch.teaching.output_kinds import kinds_of
from graphopt_torch.teaching.output_losses import divergences, output_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.divergence import OutputKind, divergence
from graphopt.errors import ModelError
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def softmax(scores: Any) -> Any:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


# -- outputs -------------------------------------------------------------------------------


def test_kinds_are_told_from_values() -> None:
    embedding = normal(1, 16)
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    one = {
        "scores": normal(1, 10),
        "picture": normal(1, 3, 8, 8),
        "embedding": embedding,
        "chosen": np.array([3]),
    }
    assert kinds_of([one]) == {
        "scores": Kind.LOGITS,
        "picture": Kind.SIGNAL,
        "embedding": Kind.DIRECTION,
    }


def test_boxes_beside_probabilities_are_numbers() -> None:
    one = {"scores": softmax(normal(1, 20, 2)), "boxes": normal(1, 20, 4)}
    assert kinds_of([one]) == {"scores": Kind.PROBABILITIES, "boxes": Kind.SIGNAL}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_loss_is_zero_at_the_teacher_and_falls_towards_it(kind: Kind) -> None:
    taught = torch.from_numpy(softmax(normal(4, 6)))
    taught = taught / taught.norm(dim=-1, keepdim=True) if kind is Kind.DIRECTION else taught
    found = torch.from_numpy(softmax(normal(4, 6))).requires_grad_()
    assert float(output_loss(kind, taught, taught, 1.0)) == pytest.approx(0.0, abs=1e-6)
    loss = output_loss(kind, taught, found, 1.0)
    loss.backward()
    nearer = found.detach() - 1e-2 * found.grad / found.grad.norm()
    assert float(loss.detach()) > float(output_loss(kind, taught, nearer, 1.0)) > 0.0


def test_a_temperature_keeps_the_size_of_gradients() -> None:
    """Hinton et al. 2015: with T^2, gradients at a high temperature are those of centred MSE."""
    taught, found = torch.from_numpy(normal(8, 5)), torch.from_numpy(normal(8, 5))
    hot = float(output_loss(Kind.LOGITS, taught, found, 1.0, temperature=50.0))
    apart = (taught - found) - (taught - found).mean(dim=-1, keepdim=True)
    assert hot == pytest.approx(float(0.5 * apart.square().mean()), rel=0.1)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(list(OutputKind)), st.integers(0, 1000), st.sampled_from([2, 3]))
def test_divergences_are_those_of_the_analysis(kind: OutputKind, seed: int, rank: int) -> None:
    """The limit on divergence means the same for passes that train and passes that prune."""
    random = np.random.default_rng(seed)
    shape = (3, 4, 5)[-rank:]
    one, other = (random.standard_normal(shape).astype(np.float32) for _ in range(2))
    if kind is OutputKind.PROBABILITIES:
        one, other = softmax(one), softmax(other)
    found = divergences(kind, torch.from_numpy(one), torch.from_numpy(other), joined=True)
    expected = [divergence(a[None], b[None], kind) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-9)
    whole = divergences(kind, torch.from_numpy(one), torch.from_numpy(other), joined=False)
    assert float(whole.mean()) == pytest.approx(divergence(one, other, kind), rel=1e-5)


def test_what_is_not_finite_diverges_without_end() -> None:
    bad = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    found = divergences(OutputKind.LOGITS, torch.zeros(2, 2), bad, joined=True)
    assert found[0] == torch.inf
    assert found[1] < 1.0


# -- features ------------------------------------------------------------------------------

RESIDUAL = """
residual (float[N, 4, 6, 6] x) => (float[N, 5] y)
<float[{stream}, 4, 3, 3] w0, float[{inner}, {stream}, 3, 3] w1, float[{stream}, {inner}, 3, 3] w2,
 float[{inner}, {stream}, 3, 3] w3, float[{stream}, {inner}, 3, 3] w4, float[{stream}, 5] head> {{
  a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  b = Conv <pads = [1, 1, 1, 1]> (a, w1)
  c = Relu (b)
  d = Conv <pads = [1, 1, 1, 1]> (c, w2)
  first = Add (a, d)
  e = Conv <pads = [1, 1, 1, 1]> (first, w3)
  f = Relu (e)
  h = Conv <pads = [1, 1, 1, 1]> (f, w4)
  second = Add (first, h)
  p = ReduceMean <axes = [2, 3], keepdims = 0> (second)
  y = MatMul (p, head)
}}
"""


def residual(stream: int = 8, inner: int = 6) -> Graph:
    """Return a net whose branches add little to its stream."""
    made = graph(RESIDUAL.format(stream=stream, inner=inner))
    ir.infer_shapes(made)
    for name in ("w2", "w4"):
        small = 0.005 * made.value(name).array()
        made.set_tensor(made.value(name), ir.Tensor.from_array(small))
    return made


def without_channels(keep: list[int]) -> Graph:
    """Return the residual net with only some channels of its stream, and weights disturbed."""
    whole, made = residual(), residual(stream=len(keep))
    axes = {"w0": 0, "w1": 1, "w2": 0, "w3": 1, "w4": 0, "head": 0}
    for name, axis in axes.items():
        array = whole.value(name).array().take(keep, axis=axis)
        made.set_tensor(made.value(name), ir.Tensor.from_array(array + 0.01 * normal(*array.shape)))
    return made


def test_sums_of_a_residual_stream_are_block_ends() -> None:
    assert block_ends(residual(), residual()) == {"first": "first", "second": "second"}
    narrow = residual(inner=3)
    assert block_ends(residual(), narrow) == {"first": "first", "second": "second"}


def test_a_plain_model_ends_blocks_behind_activations() -> None:
    plain = graph(
        """plain (float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y)
        <float[4, 2, 1, 1] w1, float[4, 4, 1, 1] w2, float[3, 4, 1, 1] w3> {
          a = Conv (x, w1)
          b = Relu (a)
          c = Conv (b, w2)
          d = Relu (c)
          y = Conv (d, w3)
        }"""
    )
    ir.infer_shapes(plain)
    assert block_ends(plain, plain) == {"b": "b", "d": "d"}


@pytest.mark.parametrize(
    ("taught", "found", "axis"),
    [
        ((0, 8, 6, 6), (0, 5, 6, 6), 1),
        ((0, 9, 64), (0, 9, 48), 2),
        ((0, 8, 6, 6), (0, 8, 6, 6), None),
        ((0, 8, 6, 6), (0, 9, 6, 6), None),
        ((0, 8, 6, 6), (0, 5, 3, 6), None),
        ((0, 8), (0, 8, 1), None),
    ],
)
def test_the_axis_that_was_narrowed(
    taught: tuple[int, ...], found: tuple[int, ...], axis: int | None
) -> None:
    assert narrowed_axis(taught, found) == axis


@settings(deadline=None)
@given(st.sets(st.integers(0, 11), min_size=1), st.integers(0, 100), st.sampled_from([1, 2]))
def test_kept_channels_are_found_by_what_they_hold(keep: set[int], seed: int, axis: int) -> None:
    random = np.random.default_rng(seed)
    shape = [5, 7, 7]
    shape[axis] = 12
    taught = random.standard_normal(shape).astype(np.float32)
    found = taught.take(sorted(keep), axis=axis)
    found += 0.05 * random.standard_normal(found.shape).astype(np.float32)
    channels = kept_channels(torch.from_numpy(taught), torch.from_numpy(found), axis)
    assert channels is not None
    assert channels.tolist() == sorted(keep)


def test_channels_in_another_order_are_not_taken_for_kept() -> None:
    taught = torch.from_numpy(normal(4, 6, 5, 5))
    assert kept_channels(taught, taught[:, [3, 1, 4]], 1) is None
    assert strangeness(taught, -taught) == pytest.approx(4.0)


# -- the objective -------------------------------------------------------------------------


def objective(original: Graph, made: Graph, **options: Any) -> Objective:
    data = context(data={"x": normal(40, 4, 6, 6)}, model=original)
    samples = TrainingSamples.of(made, data)
    programs = Program.of(original), Program.of(made)
    return Objective.of(*programs, original, made, samples, **options)


def test_a_narrower_stream_is_compared_on_the_channels_that_it_has() -> None:
    keep = [0, 2, 3, 5, 7]
    found = objective(residual(), without_channels(keep))
    assert [feature.taught for feature in found.features] == ["first", "second"]
    for feature in found.features:
        assert feature.channels is not None
        assert feature.channels.tolist() == keep
    assert found.feature_weight > 0.0


def test_a_feature_that_another_pass_turned_is_left_out() -> None:
    turned = residual()
    for name in ("w0", "w2", "w4"):
        array = turned.value(name).array()
        turned.set_tensor(turned.value(name), ir.Tensor.from_array(-array))
    assert objective(residual(), turned).features == ()


def test_without_features_only_outputs_count() -> None:
    found = objective(residual(), without_channels([0, 1, 2]), features=False)
    assert found.wanted == (("y",), ("y",))


def test_an_equal_student_has_nothing_to_learn() -> None:
    found = objective(residual(), residual())
    program = Program.of(residual())
    feed = {"x": torch.from_numpy(normal(3, 4, 6, 6))}
    taught = program.run(feed, found.wanted[0])
    assert float(found.loss(taught, taught)) == pytest.approx(0.0, abs=1e-9)
    assert found.divergence(taught, taught) == 0.0


def test_outputs_without_a_gradient_are_refused() -> None:
    chosen = graph(
        """chosen (float[N, 4] x) => (int64[N, 1] y) <float[4, 5] w> {
          s = MatMul (x, w)
          y = ArgMax <axis = 1> (s)
        }"""
    )
    data = context(data={"x": normal(12, 4)}, model=chosen)
    samples = TrainingSamples.of(chosen, data)
    program = Program.of(chosen)
    with pytest.raises(ModelError, match="no output is of floats") as raised:
        Objective.of(program, program, chosen, chosen, samples)
    assert raised.value.code == "G217"
