"""Pruning a model that is quantized: in either order, and one that is quantized already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt import ir
from graphopt.cli.render_pruned import pruned as lines_of
from graphopt.errors import PassError, RecipeError
from graphopt.passes.prune.unquantized import unquantized
from graphopt.testing import context
from tests.unit.api.digits import accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled

QUICK = ("prune-channels.criterion=l2", "insert-qdq.placement=integer", "align-channels.mode=off")
"""One criterion, and nothing to decide about integers: these tests are about the order."""


def ordered(models: Path, order: str, *overrides: str, **options: Any) -> Compiled:
    return graphopt.compile(
        options.pop("model", models / "digits_resnet.onnx"),
        target="arm",
        data=models / "digits.npz",
        prune_to=options.pop("goal", "latency=0.8x"),
        overrides=[*QUICK, f"prune-channels.order={order}", *overrides],
        **options,
    )


@pytest.fixture(scope="module")
def both(models: Path) -> Compiled:
    return ordered(models, "auto")


def test_both_orders_reach_the_goal_and_the_nearer_model_is_kept(both: Compiled) -> None:
    record = both.report.pruning
    assert record is not None
    unpruned, *found = record.orders
    assert (unpruned.order, unpruned.figure, unpruned.kept) == ("", record.before, False)
    assert {each.order for each in found} == {"prune-first", "quantize-first"}
    assert all(each.figure is not None and each.figure <= record.limit for each in found)
    (kept,) = (each for each in found if each.kept)
    assert kept.order == record.order
    assert kept.divergence == min(each.divergence or 0.0 for each in found)


def test_the_goal_is_of_the_quantized_model(both: Compiled) -> None:
    record = both.report.pruning
    assert record is not None
    (latency,) = (figure for figure in both.report.figures if figure.name == "latency")
    assert record.limit == pytest.approx(0.8 * record.before)
    # Plans are made anew for what is left; the estimate of the result is that of the choice.
    assert latency.after == pytest.approx(record.after, rel=0.02)
    assert record.before < 0.8 * latency.before  # in integers it was faster before anything went


def test_what_is_left_reads_digits_in_integers(both: Compiled, models: Path) -> None:
    assert both.graph.nodes("QuantizeLinear")
    before = accuracy(ir.load(models / "digits_resnet.onnx"), models / "digits_test.npz")
    assert accuracy(both.graph, models / "digits_test.npz") > before - 0.03


def test_the_report_compares_the_orders(both: Compiled) -> None:
    text = "\n".join(lines_of(both.report.pruning, verbose=False))
    for part in ("quantized only", "pruned, then quantized", "quantized, then pruned", "kept: "):
        assert part in text


def test_what_stays_in_float_is_pruned_as_ever(models: Path) -> None:
    found = ordered(models, "auto", "insert-qdq.placement=float", "quantize-matmuls.mode=off")
    record = found.report.pruning
    assert record is not None
    assert record.order == "prune-first"
    assert [each.why for each in record.orders] == ["what is left stays in float"]
    assert "order not asked" in "\n".join(lines_of(record, verbose=False))


def test_a_quantized_model_is_fitted_in_float_and_quantized_again(
    models: Path, tmp_path: Path
) -> None:
    integer = graphopt.compile(
        models / "digits_resnet.onnx", target="arm", data=models / "digits.npz", overrides=QUICK
    )
    path = tmp_path / "integer.onnx"
    path.write_bytes(integer.to_bytes())
    found = ordered(models, "prune-first", model=path)
    record = found.report.pruning
    assert record is not None
    assert record.order == "quantize-first"  # the only one that is left
    assert [each.why for each in record.orders] == ["nothing removed", "asked for"]
    assert unquantized(integer.graph, context()) is None  # without data it keeps its integers
    (step,) = (p for p in found.report.passes if p.name == "prune-channels")
    assert any("Q and DQ taken out" in note for note in step.notes)
    assert any("fitted by" in note for note in step.notes)
    latency = next(figure for figure in found.report.figures if figure.name == "latency")
    assert latency.after <= 0.82 * latency.before
    before = accuracy(integer.graph, models / "digits_test.npz")
    assert accuracy(found.graph, models / "digits_test.npz") > before - 0.03


@pytest.mark.parametrize("option", ["widths", "branches"])
def test_what_is_excluded_cannot_be_told_to_change(models: Path, option: str) -> None:
    name, value = "stage1.conv1.weight_fused", "16"
    if option == "branches":
        name, value = "anything", "drop"
    with pytest.raises(PassError, match="is in `exclude`"):
        ordered(
            models,
            "prune-first",
            f'prune-channels.{option}=["{name}={value}"]',
            f'prune-channels.exclude=["{name}"]',
            goal=None,
        )


def test_two_goals_are_refused(models: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "twice.toml"
    one = '[[passes]]\nuse = "prune-channels"\nto = "macs=0.9x"\n'
    recipe.write_text(f"version = 1\n{one}{one}", encoding="utf-8")
    with pytest.raises(RecipeError, match="prunes twice"):
        graphopt.compile(
            models / "digits_resnet.onnx", recipe=recipe, data=models / "digits.npz", target="arm"
        )
