"""Data is divided so that nothing is calibrated on what accuracy is judged on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.api.division import Samples, divided
from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.recipe import Calibration

SPECS = {"x": InputSpec("x", ("N", 1), "float32")}


def data(count: int, *, start: int = 0) -> Any:
    numbers = np.arange(start, start + count, dtype=np.float32)[:, None]
    return open_dataset({"x": numbers, "labels": numbers[:, 0].astype(int)}, SPECS)


def values(dataset: Any) -> set[float]:
    return {float(feed["x"].item()) for feed in dataset}


def parts(found: Samples) -> tuple[set[float], set[float]]:
    assert found.validation is not None
    judged = values(found.validation.dataset)
    return judged, values(found.calibration) | values(found.fitting)


@pytest.mark.parametrize("count", [4, 5, 16, 40, 144, 500, 999, 1500, 6000])
@pytest.mark.parametrize("fits", [False, True])
def test_what_is_judged_on_is_never_calibrated_on(count: int, fits: bool) -> None:
    found = divided(data(count), Calibration(), judges=True, fits=fits)
    judged, used = parts(found)
    assert found.set_aside == len(judged)
    assert not judged & used
    assert values(found.held_out) <= judged
    assert found.validation is not None
    assert found.validation.used == len(
        values(found.calibration) | (values(found.fitting) if fits else set())
    )


@pytest.mark.parametrize(
    ("count", "fits", "judged"),
    # What calibration (128) or fitting (1000) leaves; half where that is few; 2000 at most.
    [(40, False, 20), (500, False, 372), (500, True, 250), (1200, True, 500), (9000, True, 2000)],
)
def test_how_many_are_set_aside(count: int, fits: bool, judged: int) -> None:
    assert divided(data(count), Calibration(), judges=True, fits=fits).set_aside == judged


def test_without_a_drop_nothing_changes_and_a_stated_number_is_kept() -> None:
    plain = divided(data(400), Calibration())
    assert plain.validation is None
    assert (len(plain.calibration), len(plain.held_out), plain.set_aside) == (128, 16, 0)
    stated = divided(data(400), Calibration(set_aside=100))
    asked = divided(data(400), Calibration(set_aside=100), judges=True)
    assert stated.validation is None
    assert values(stated.calibration) == values(asked.calibration)
    assert asked.set_aside == 100


def test_other_samples_to_judge_on_leave_all_of_the_data_to_calibrate_with() -> None:
    found = divided(data(300), Calibration(), judged=data(250, start=200), judges=True)
    judged, _ = parts(found)
    calibrated = values(found.calibration)
    assert found.set_aside == 0
    assert len(calibrated) == 128
    # Those of the other file that are calibrated on, by content, are dropped.
    wanted = {float(i) for i in range(200, 450)}
    assert judged == wanted - calibrated
    assert found.validation is not None
    assert found.validation.dropped == len(wanted & calibrated) > 0
