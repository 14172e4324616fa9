"""Microcontrollers against MLPerf Tiny v1.2: the four reference networks, time and energy.

Inferences per second and microjoules per inference of NUCLEO-L4R5ZI (Cortex-M4) and
NUCLEO-H7A3ZI-Q (Cortex-M7), both X-CUBE-AI 9 (shared data, latency/mlperf_tiny_v1.2_summary.csv).
"""

from __future__ import annotations

import csv

import pytest

from graphopt.types import DType

BOARDS = {"cortex-m4": "NUCLEO-L4R5ZI", "cortex-m7": "NUCLEO-H7A3ZI-Q"}


def resnet8(net):
    """Return the image classification network ``ic``."""
    built = net((1, 3, 32, 32), DType.INT8).conv(16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        start, shape = built.end, built.shape
        built.conv(channels, stride=stride).conv(channels, relu=False)
        main = built.end
        if stride > 1:
            built.end, built.shape = start, shape
            built.conv(channels, 1, stride=stride, relu=False)
            start = built.end
            built.end = main
        built.add(start)
    return built.pool_and_flatten().dense(10)


def mobilenet(net):
    """Return the visual wake words network ``vww``: MobileNet v1, width 0.25, 96 x 96."""
    built = net((1, 3, 96, 96), DType.INT8).conv(8, stride=2)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    for channels, stride in [*plan, *[(128, 1)] * 5, (256, 2), (256, 1)]:
        built.conv(built.shape[1], stride=stride, group=built.shape[1]).conv(channels, 1)
    return built.pool_and_flatten().dense(2)


def dscnn(net):
    """Return the keyword spotting network ``kws``."""
    built = net((1, 1, 25, 5), DType.INT8).conv(64, (10, 4))
    for _ in range(4):
        built.conv(64, group=64).conv(64, 1)
    return built.pool_and_flatten().dense(12)


def autoencoder(net):
    """Return the anomaly detection network ``ad``."""
    built = net((1, 640), DType.INT8)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        built.dense(width, relu=True)
    return built.dense(640)


NETWORKS = {"ic": resnet8, "vww": mobilenet, "kws": dscnn, "ad": autoencoder}


@pytest.fixture
def rows(shared):
    with (shared / "latency" / "mlperf_tiny_v1.2_summary.csv").open(encoding="utf-8") as file:
        return [r for r in csv.DictReader(file) if r["Organization"] == "STMicroelectronics"]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_time_and_energy_are_within_35_percent(net, estimate, rows, board, name):
    (row,) = (r for r in rows if r["BoardName"] == BOARDS[board] and r["Model"] == name)
    found = estimate(NETWORKS[name](net).done(), board)
    assert found.latency_ms.value == pytest.approx(1e3 / float(row["Result"]), rel=0.35)
    assert found.energy_mj is not None
    assert found.energy_mj.value == pytest.approx(float(row["Power"]) / 1e3, rel=0.35)


def test_products_are_counted_as_published(net, estimate):
    counted = {name: estimate(build(net).done()).macs / 1e6 for name, build in NETWORKS.items()}
    assert counted["ic"] == pytest.approx(12.5, rel=0.02)
    assert counted["vww"] == pytest.approx(7.5, rel=0.03)
    assert counted["kws"] == pytest.approx(2.66, rel=0.01)
    assert counted["ad"] == pytest.approx(0.264, rel=0.01)
