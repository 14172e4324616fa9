"""What the latency benchmarks read: definitions of networks, what is executed, and the scores."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.cost import group_kernels
from graphopt.cost.signature import signature_of
from graphopt.targets import builtin_targets

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
BASE = next(t for t in builtin_targets() if t.name == "arm64-neon")
CONV3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
ALL_CONV3 = CONV3 + "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
BEST = CONV3 + "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_largest_cell_has_the_published_work(load: Any) -> None:
    nasbench = load("nasbench_graphs")
    found = nasbench.kernels(nasbench.parse(ALL_CONV3), BASE)
    # NAS-Bench-201 states 220.11969 MFLOPs, the 10 additions of the classifier among them.
    assert sum(s.macs for s in found) == 220_119_680


def test_one_cell_per_stage_counts_like_five(load: Any) -> None:
    nasbench = load("nasbench_graphs")
    edges = nasbench.parse(BEST)
    whole = nasbench.network(edges, cells=nasbench.CELLS)
    ir.infer_shapes(whole)
    five = Counter(signature_of(k) for k in group_kernels(whole, BASE))
    assert Counter(nasbench.kernels(edges, BASE)) == five


def test_what_a_converter_leaves_of_none(load: Any) -> None:
    nasbench = load("nasbench_graphs")
    arch = "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|skip_connect~0|none~1|none~2|"
    edges = nasbench.parse(arch)
    assert nasbench.is_connected(edges)
    assert nasbench.executed(edges, "eager") == edges
    # Node 1 is one convolution alone: its product with 0 goes into its weights, and it runs.
    # Node 2 is a pooling: nothing reads it any more.
    assert set(nasbench.executed(edges, "converted")) == {
        (0, 1, "nor_conv_3x3"), (1, 3, "zero"), (0, 3, "skip_connect"),
    }  # fmt: skip
    cut = nasbench.parse("|none~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|avg_pool_3x3~2|")
    assert not nasbench.is_connected(cut)


def test_inferred_shapes_are_those_that_the_files_state(load: Any, shared: Path) -> None:
    ncnn = load("ncnn_graphs")
    known = {*ncnn._RULES, "ReLU", "Split", "Swish", "Eltwise", "ShuffleChannel"}
    checked = 0
    for path in sorted((shared / "latency" / "ncnn").glob("*.param")):
        for layer in ncnn.read_layers(path):
            if layer.op in known - {
                "MemoryData",
                "Reshape",
                "Gemm",
                "Permute",
                "Concat",
                "Pooling",
            }:
                found = ncnn.inferred(layer, {}, len(layer.outputs), path.stem)
                assert found == layer.outputs, (path.stem, layer.name)
                checked += 1
    assert checked > 1500


def test_work_of_known_networks(load: Any, shared: Path) -> None:
    ncnn = load("ncnn_graphs")
    folder = shared / "latency" / "ncnn"
    for name, macs in (("resnet18", 1.82e9), ("mobilenet", 0.569e9), ("vgg16", 15.47e9)):
        found = sum(s.macs for s in ncnn.signatures(folder / f"{name}.param"))
        assert found == pytest.approx(macs, rel=0.01), name  # the papers' figures
    integers = {s.dtype for s in ncnn.signatures(folder / "resnet18_int8.param") if s.product}
    assert "int8" in integers
    attention = ncnn.signatures(folder / "vision_transformer.param")
    assert sum(s.kernel == "Attention" for s in attention) == 24


def test_scores(load: Any) -> None:
    scores = load("latency_scores")
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    exact = scores.scores(measured, measured)
    assert exact == {"spearman": 1.0, "kendall": 1.0, "mape": 0.0, "within_10": 100.0}
    assert scores.scores(measured[::-1], measured)["kendall"] == -1.0
    assert scores.spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(
        np.sqrt(3) / 2
    )
    np.testing.assert_array_equal(
        scores.twin_medians(["a", "b", "a", "a"], np.array([1.0, 5.0, 2.0, 4.0])),
        [3.0, np.nan, 2.5, 1.5],
    )


def test_a_population_predicts_a_newcomer(load: Any) -> None:
    population = load("device_population")
    random = np.random.default_rng(0)
    parts = random.uniform(1, 50, (20, 4)) * random.integers(0, 2, (20, 4)) + 1
    factors = np.exp(random.normal(0, 0.4, (13, 4)) + random.normal(0, 1, (13, 1)))
    logs = np.log(factors @ parts.T) + random.normal(0, 0.01, (13, 20))
    logs[3, 5] = np.nan
    newcomer = population.Newcomer(parts, logs[:12], population.Beliefs(model_error=0.1))
    chosen = newcomer.anchors(range(20), 5)
    assert len(set(chosen)) == 5
    hidden = np.full(20, np.nan)
    hidden[chosen] = logs[12, chosen]
    predicted = newcomer.predict(chosen, hidden)
    assert np.abs(np.expm1(predicted - logs[12])).mean() < 0.05
    scaled = np.log(parts.sum(axis=1))
    scaled += np.median(logs[12, chosen] - scaled[chosen])
    assert np.abs(predicted - logs[12]).mean() < np.abs(scaled - logs[12]).mean()
