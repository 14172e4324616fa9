"""``--recover`` end to end on the shipped model: pruned and quantized, and trained after each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt.errors import DataError
from graphopt.registry import Registry
from graphopt.testing import run_cli

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled

PRUNED = (
    'prune-channels.widths=["stage2.conv2.weight_fused=40@l2","stage2.conv1.weight_fused=48@l2"]',
    "prune-channels.rebuild=false",
    "limits.max-divergence=9",
)
# Several threads wait for each other where the machine has other work.
BRIEFLY = ("distill-weights.rate=1e-3", "distill-weights.threads=1", "distill-weights.batch=16")
INTEGER = ("insert-qdq.placement=integer", "align-channels.mode=off", "limits.never-slower=false")


def compiled(models: Path, *overrides: str, **options: Any) -> Compiled:
    return graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        data=models / "digits.npz",
        overrides=[*INTEGER, *overrides],
        registry=Registry(plugins=["torch"]),
        **options,
    )


@pytest.fixture(scope="module")
def trained(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    from pathlib import Path

    models = Path(__file__).resolve().parents[3] / "models"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRAPHOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return compiled(models, *PRUNED, *BRIEFLY, recover="steps=30")


def test_both_trainings_happen_and_bring_the_model_nearer(trained: Compiled) -> None:
    first, second = trained.report.recovery
    assert (first.of, second.of) == ("float", "quantized")
    assert first.kept
    assert first.after < 0.8 * first.before
    assert second.after <= second.before


def test_the_recipe_repeats_the_bytes(trained: Compiled, models: Path) -> None:
    from graphopt.recipe import parse_recipe

    again = graphopt.compile(
        models / "digits_resnet.onnx",
        data=models / "digits.npz",
        recipe=parse_recipe(trained.report.recipe),
        registry=Registry(plugins=["torch"]),
    )
    assert again.to_bytes() == trained.to_bytes()


def test_the_operators_are_those_without_training(trained: Compiled, models: Path) -> None:
    plain = compiled(models, *PRUNED)
    told = [[node.op for node in made.graph.nodes()] for made in (plain, trained)]
    assert told[0] == told[1]
    assert plain.to_bytes() != trained.to_bytes()


def test_extra_samples_change_the_training_and_nothing_before_it(
    trained: Compiled, models: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).standard_normal((64, 1, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "more.npz", input=rows)
    extra = f"calibration.extra={tmp_path / 'more.npz'}"
    other = compiled(models, *PRUNED, *BRIEFLY, extra, recover="steps=30")
    first, again = (made.report.recovery[0] for made in (trained, other))
    assert again.before == first.before
    assert again.after != first.after
    assert "more.npz" in other.report.recipe


def test_extra_samples_that_are_not_there_are_named(models: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        compiled(models, *PRUNED, "calibration.extra=nowhere.npz", recover="steps=1")
    with pytest.raises(DataError, match="no data") as raised:
        graphopt.compile(models / "digits_resnet.onnx", overrides=["calibration.extra=more.npz"])
    assert raised.value.code == "G213"


def test_minutes_are_settled_as_steps(models: Path) -> None:
    made = compiled(models, *BRIEFLY, recover="minutes=0.05")
    (record,) = made.report.recovery
    assert record.steps > 0
    assert f"steps = {record.steps}" in made.report.recipe


def test_the_command_line_says_what_was_won(models: Path, tmp_path: Path) -> None:
    sets = [text for told in (*INTEGER, *BRIEFLY) for text in ("--set", told)]
    output = tmp_path / "made.onnx"
    found = run_cli(
        "compile", models / "digits_resnet.onnx", "--target", "arm", "--data",
        models / "digits.npz", "--recover", "steps=5", *sets, "-o", output,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert "quantized model" in found.out
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["recovery"][0]["steps"] == 5


def test_the_pass_explains_itself(models: Path) -> None:
    found = run_cli("passes", "distill-weights")
    assert found.code == 0
    assert "minutes" in found.out
    assert "--recover" not in found.err
