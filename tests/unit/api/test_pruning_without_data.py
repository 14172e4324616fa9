"""Pruning without data: what the BatchNormalization nodes remember stands in for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import graphopt
from graphopt import ir
from graphopt.calibration.synthetic import ORIGIN
from graphopt.errors import PassError
from tests.unit.api.digits import accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled


@pytest.fixture(scope="module")
def smaller(models: Path) -> Compiled:
    return graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        prune_to="macs=0.75x",
        overrides=["calibration.fitted=80", "limits.max-divergence=2"],
    )


def test_the_goal_is_reached_and_the_model_still_works(smaller: Compiled, models: Path) -> None:
    record = smaller.report.pruning
    assert record is not None
    assert record.after <= record.limit
    before = accuracy(ir.load(models / "digits_resnet.onnx"), models / "digits_test.npz")
    found = accuracy(smaller.graph, models / "digits_test.npz")
    assert found > before - 0.2, found


def test_the_report_says_that_nobody_gave_data(smaller: Compiled) -> None:
    calibration = smaller.report.calibration
    assert calibration is not None
    assert calibration.origin == ORIGIN
    assert (calibration.samples, calibration.held_out) == (56, 24)
    assert "W213" in {notice.code for notice in smaller.report.notices}
    assert "W211" not in {notice.code for notice in smaller.report.notices}


def test_nothing_is_quantized_on_synthetic_samples(smaller: Compiled) -> None:
    assert not smaller.graph.nodes("QuantizeLinear")
    (step,) = [r for r in smaller.report.passes if r.name == "prune-channels"]
    assert step.status == "changed"
    assert any("least-squares" in note for note in step.notes)


def test_a_model_without_normalizations_needs_data(models: Path) -> None:
    with pytest.raises(PassError) as caught:
        graphopt.compile(models / "waveform_transformer.onnx", target="arm", prune_to="macs=0.75x")
    assert caught.value.code == "G308"
    assert "--data" in str(caught.value.hint)


def test_with_data_nothing_is_made_up(models: Path) -> None:
    done = graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        data=models / "digits.npz",
        overrides=["prune-channels.widths=[]"],
    )
    assert done.report.calibration is not None
    assert done.report.calibration.origin != ORIGIN
    assert "W213" not in {notice.code for notice in done.report.notices}
