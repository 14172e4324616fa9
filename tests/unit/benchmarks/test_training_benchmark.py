"""The rules of the benchmarks of training: what is asked, what is tested on, what is recorded."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def subject(load: Any, name: str) -> Any:
    return next(s for s in load("training_bars").SUBJECTS if s.name == name)


def missed(found: dict[str, dict[str, bool]]) -> list[str]:
    return [text for bars in found.values() for text, holds in bars.items() if not holds]


def rows(**changes: Any) -> dict[str, dict[str, Any]]:
    made = {
        "fp32": {"score": 87.3},
        "closed form": {"score": 82.3},
        "trained": {"score": 85.0, "minutes": 14.0},
        "trained, int8": {"score": 84.8},
        "int8 trained": {"score": 87.2, "minutes": 5.0},
        "w4a8 trained": {"score": 86.5, "minutes": 5.0},
    }
    for name, row in changes.items():
        made[name.replace("_", " ")] |= row
    return made


def test_rows_that_do_all_that_is_asked_miss_no_bar(load: Any) -> None:
    model = subject(load, "cifar10_resnet20_jpegft")
    assert not missed(load("training_bars").verdicts(model, rows()))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trained": {"score": 84.79}}, "regains at least 0.50 of what was lost"),
        ({"trained": {"minutes": 15.1}}, "at most 15 minutes"),
        ({"w4a8_trained": {"score": 86.1}}, "at most 1 point below int8"),
    ],
)
def test_each_bar_is_missed_alone(load: Any, changes: dict[str, Any], text: str) -> None:
    model = subject(load, "cifar10_resnet20_jpegft")
    assert missed(load("training_bars").verdicts(model, rows(**changes))) == [text]


def test_int8_is_compared_with_what_was_trained(load: Any) -> None:
    model = subject(load, "cifar10_resnet20_jpegft")
    made = rows()
    made["trained, int8"]["score"] = 84.4
    assert missed(load("training_bars").verdicts(model, made)) == [
        "int8 loses at most 0.5 points more"
    ]


def test_compact_and_small_models_have_bars_of_their_own(load: Any) -> None:
    bars = load("training_bars").verdicts
    compact = {
        "fp32": {"score": 49.4},
        "int8": {"score": 47.8, "agreement": 0.86},
        "int8 trained": {"score": 47.6, "agreement": 0.89, "minutes": 9.0},
        "closed form": {"score": 38.6},
        "trained": {"score": 44.0, "minutes": 9.0},
    }
    assert missed(bars(subject(load, "imagenet_proxyless_w025_r112"), compact)) == [
        "agrees with fp32 on at least 0.9",
        "top-1 not below that without training",
        "aim: regains at least 0.67",
    ]
    small = {"fp32": {"score": 91.1}, "trained": {"score": 90.0, "minutes": 3.0}}
    assert missed(bars(subject(load, "kws_dscnn_bn"), small)) == ["at most 1 point lost"]
    text = {
        "fp32": {"score": 65.0, "cross_entropy": 1.239},
        "w4 trained": {"score": 64.9, "cross_entropy": 1.25, "minutes": 3.0},
    }
    assert missed(bars(subject(load, "stories260k_decoder"), text)) == [
        "cross-entropy within 0.01 nats"
    ]


def test_every_step_is_made_of_one_before_it_by_a_plan_that_there_is(load: Any) -> None:
    plans = load("training_models").PLANS
    for model in load("training_bars").SUBJECTS:
        known = {load("training_bars").FLOAT}
        for step in model.steps:
            assert step.plan in plans
            assert step.source in known
            assert (step.share > 0) == step.name.endswith("trained")
            known.add(step.name)


def test_recipes_train_where_they_should(load: Any) -> None:
    models = load("training_models")
    plain, training = models.Order("macs=1000", 2000, {}), {"minutes": 3.0}
    closed = models.pruned(plain)
    text = models.write_recipe(closed)
    trained = models.trained(dataclasses.replace(plain, training=training, closed=text))
    uses = [entry.use for entry in trained.passes]
    assert uses.count("distill-weights") == 1
    assert uses[uses.index("prune-channels") + 1] == "distill-weights"
    assert closed.calibration.fitted == 2000
    for plan in ("integer", "few bits", "weight only"):
        made = models.PLANS[plan](dataclasses.replace(plain, training=training))
        assert made.passes[-1].use == "distill-weights"
        assert dict(made.passes[-1].options) == training
        untrained = models.PLANS[plan](plain)
        assert untrained.passes == made.passes[:-1]


@pytest.mark.parametrize(
    "name", ["kws_dscnn_bn", "mnist_cntk", "stories260k_decoder", "cifar10_resnet20"]
)
def test_nothing_that_is_tested_is_trained_on(load: Any, shared: Path, name: str) -> None:
    models = load("training_models")
    workload = models.workload_of(name)
    unlabelled = models.unlabelled(workload, 300)
    tests = [next(iter(feed.values())) for feed in models.tested(workload).feeds()]
    assert len(unlabelled) <= 300
    assert tests[0].shape[1:] == unlabelled.shape[1:]
    seen = {np.ascontiguousarray(one).tobytes() for one in unlabelled}
    # The MFCC files hold some spoken words more than once.
    repeated = sum(one.tobytes() in seen for one in tests)
    assert repeated <= len(tests) * (0.01 if name.startswith("kws") else 0)


def test_halves_have_every_sample_once(load: Any, shared: Path) -> None:
    models = load("training_models")
    workload = models.tested(models.workload_of("kws_dscnn_bn"))
    one, other = load("training_size").halves(workload)
    assert len(one.feeds()) + len(other.feeds()) == len(workload.feeds())
    assert np.array_equal(other.labels(), workload.labels()[1::2])
    assert np.array_equal(one.feeds()[1]["input"], workload.feeds()[2]["input"])


def test_the_smallest_within_a_point_is_chosen(load: Any) -> None:
    row = {"lost": 0.9, "interval": [0.1, 1.7], "smaller": 0.8}
    record = {
        "rows": {
            "8 bits, 1x": row | {"bytes": 300, "lost_when_chosen": 0.1},
            "8 bits, 0.5x": row | {"bytes": 200, "lost_when_chosen": 0.9},
            "4 bits, 0.5x": row | {"bytes": 100, "lost_when_chosen": 1.2},
            "4 bits, 0.4x": {"failed": "no", "bytes": 50, "lost_when_chosen": 0.0},
        }
    }
    load("training_size").judged("kws_dscnn_bn", record)
    assert record["chosen"] == "8 bits, 0.5x"
    assert all(record["bars"].values())
    load("training_size").judged("cifar10_resnet20", record)
    assert not all(record["bars"].values())


def test_seeds_are_summed_up(load: Any) -> None:
    training, model = load("training"), subject(load, "cifar10_resnet20_jpegft")
    made = {
        "fp32 | seed 0": {"score": 87.0, "interval": [0.0, 0.0]},
        **{
            f"trained | seed {n}": {"score": 84.0 + n, "minutes": 9.0, "interval": [0.5, 1.5]}
            for n in (1, 2, 3)
        },
        "w4a8 | seed 1": {"failed": "no reason"},
    }
    found = training.summary(model, made)
    assert set(found) == {"fp32", "trained"}
    assert found["trained"]["score"] == 86.0
    assert found["trained"]["score_over_seeds"] == pytest.approx(4.303 / 3**0.5, rel=1e-4)
    assert found["trained"]["bars"] == {"at most 15 minutes": True}


def test_tables_are_written_from_what_there_is(load: Any, tmp_path: Path) -> None:
    tables = load("training_tables")
    assert tables.training_tables(tmp_path) == "Nothing was measured yet."
    machine = {"date": "2026-01-01", "processor": "P", "cores": 2, "versions": {"onnxruntime": "1"}}
    row = {"smaller": 0.812, "lost": 0.4, "interval": [-0.1, 0.9]}
    model = {"rows": {"8 bits, 0.5x": row}, "chosen": "8 bits, 0.5x", "bars": {"small": False}}
    found = {"machine": machine, "models": {"kws": model}}
    (tmp_path / "training_size.json").write_text(json.dumps(found))
    text = tables.training_tables(tmp_path)
    assert "| kws | 8 bits, 0.5x | 81.2% | 0.40 (-0.10 to 0.90) | small: **no** |" in text
