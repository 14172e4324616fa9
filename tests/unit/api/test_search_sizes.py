"""Searches for small files: the same kernels, the drop kept, nothing where flash is run from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import graphopt
from graphopt import ir
from graphopt.api.searching.storing import can_store
from graphopt.recipe import preset
from graphopt.runtime import census
from graphopt.targets import Memory

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Found

FLOAT = ("insert-qdq.placement=float", "quantize-matmuls.mode=off")


def run(models: Path, folder: Path, **asked: object) -> Found:
    return graphopt.search(
        models / "digits_resnet.onnx",
        data=models / "digits_test.npz",
        target="x86",
        effort="quick",
        workers=1,
        seconds=3600.0,
        max_drop="1%",
        folder=folder,
        **asked,
    )


@pytest.mark.slow
def test_the_smallest_keeps_the_drop_in_four_bits(models: Path, tmp_path: Path) -> None:
    found = run(models, tmp_path, pick="smallest")
    chosen = next(p for p in found.record.points if p.chosen)
    usable = [p for p in found.record.points if p.status in {"front", "dominated"}]
    assert chosen.size_bytes == min(p.size_bytes for p in usable)
    assert chosen.size_bytes < 0.2 * found.record.original.size_bytes
    assert chosen.score.drop <= 1.0
    assert chosen.score.expected <= 1.0
    assert "in 4 bits" in chosen.label
    assert [v.name for v in found.compiled.graph.inputs] == ["input"]


def test_the_fastest_is_stored_smaller_where_that_costs_nothing(
    models: Path, tmp_path: Path
) -> None:
    found = run(models, tmp_path, overrides=FLOAT)
    chosen = next(p for p in found.record.points if p.chosen)
    plain = next(p for p in found.record.points if p.label == "float")
    assert chosen.label.endswith("stored in 8 bits")
    assert chosen.size_bytes < 0.4 * plain.size_bytes
    assert chosen.latency_ms == plain.latency_ms
    kernels = [census(ir.load(found.folder / str(point.file))).kernels for point in (chosen, plain)]
    assert kernels[0] == kernels[1]
    assert "expected on other samples" in found.record.guarantee


def test_weights_that_are_run_from_storage_stay_as_they_are() -> None:
    recipe = preset("default")
    for limit, able in ((None, True), (1 << 20, False)):
        memory = Memory(1 << 20, 10.0, 10.0, storage_limit_bytes=limit)
        ground = SimpleNamespace(recipe=recipe, target=SimpleNamespace(memory=memory))
        assert can_store(ground) is able  # type: ignore[arg-type]
    plain = SimpleNamespace(
        recipe=preset("lossless"), target=SimpleNamespace(memory=Memory(1 << 20, 10.0, 10.0))
    )
    assert not can_store(plain)  # type: ignore[arg-type]
