"""The same model, data and recipe give the same bytes, in this process and in any other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import graphopt

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import hashlib, sys
import graphopt
made = graphopt.compile(sys.argv[1], target=sys.argv[2], data=sys.argv[3], measure=False)
print(hashlib.sha256(made.to_bytes()).hexdigest())
print(hashlib.sha256(made.report.recipe.encode()).hexdigest())
"""


def elsewhere(model: Path, target: str, data: Path, seed: str, cache: Path) -> str:
    """Compile in a process with another hash seed; return the digests."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(ROOT),
        "GRAPHOPT_CACHE": str(cache),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model), target, str(data)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    return done.stdout


@pytest.mark.parametrize("target", ["host", "arm"])
def test_two_compiles_are_byte_identical(models: Path, target: str) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    first, second = (
        graphopt.compile(model, target=target, data=data, measure=False) for _ in range(2)
    )
    assert first.to_bytes() == second.to_bytes()
    assert first.report.recipe == second.report.recipe
    assert first.report.operators == second.report.operators
    assert first.report.candidates == second.report.candidates


def test_processes_with_other_hash_seeds_agree(models: Path, tmp_path: Path) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    found = {elsewhere(model, "arm", data, seed, tmp_path / seed) for seed in ("1", "2")}
    assert len(found) == 1


def test_cached_statistics_change_nothing(models: Path, tmp_path: Path) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    first = elsewhere(model, "x86", data, "0", tmp_path)
    assert list(tmp_path.iterdir()), "the statistics were not cached"
    assert elsewhere(model, "x86", data, "0", tmp_path) == first
