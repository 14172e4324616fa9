"""The metrics give what the manifest of the real models says, on the real runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import workloads
from graphopt.analysis import metrics
from graphopt.api.source import input_specs, read_model
from graphopt.calibration.sources import open_dataset
from graphopt.pipeline.validation import Validation, open_guard
from graphopt.recipe import Limits
from graphopt.runtime import open_session
from tests.unit.pipeline.validation.classifier import lookup

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.report import ScoreRecord

Array = np.ndarray[Any, Any]
DIGITS = 5e-5
"""The manifest rounds shares to four digits and other figures to four significant ones."""


def scored(folder: Path, name: str, arrays: dict[str, Array], **more: Any) -> ScoreRecord:
    graph, _ = read_model(folder / "models" / f"{name}.onnx")
    specs = input_specs(graph)
    other = {k: v[:1] + 1 for k, v in arrays.items() if k != "labels"}
    given = Validation(open_dataset(arrays, specs), open_dataset(other, specs))
    session = open_session(graph)
    own = more.pop("own", None)
    guard = open_guard(Limits(max_drop="1%", **more), lookup, given, session, own=own)
    again = guard.score(session, len(given.dataset) // 2)
    assert guard.score(session, after=again).record.drop == 0
    return guard.original.record


def load(folder: Path, name: str) -> dict[str, Array]:
    with np.load(folder / "data" / name) as data:
        return {key: data[key] for key in data.files}


def test_keywords(shared: Path) -> None:
    data = load(shared, "kws_mfcc.npz")
    (name,) = (i.name for i in read_model(shared / "models/kws_dscnn_bn.onnx")[0].inputs)
    given = {name: data["x"], "labels": data["y"]}
    assert scored(shared, "kws_dscnn_bn", given).value == pytest.approx(91.11, abs=100 * DIGITS)
    five = scored(shared, "kws_dscnn_bn", given, metric="top5").value
    assert five == pytest.approx(99.22, abs=100 * DIGITS)


@pytest.mark.slow
def test_pictures(shared: Path) -> None:
    data = load(shared, "cifar10_dev.npz")
    pixels = (data["x"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = {"input": pixels.transpose(0, 3, 1, 2).astype(np.float32), "labels": data["y"]}
    for name, one, five in (
        ("cifar10_resnet20", 81.0, 98.88),
        ("cifar10_resnet20_jpegft", 87.32, 99.52),
    ):
        # One of the 5,000 may be a tie that another machine breaks differently.
        assert scored(shared, name, given).value == pytest.approx(one, abs=0.021)
        assert scored(shared, name, given, metric="top5").value == pytest.approx(five, abs=0.021)


def test_stories(shared: Path) -> None:
    given = {"input_ids": load(shared, "stories260k_tokens.npz")["ids"].astype(np.int64)}
    record = scored(shared, "stories260k_decoder", given)
    assert (record.metric, record.samples) == ("next-token-top1", 96)
    assert record.value == pytest.approx(65.12, abs=100 * DIGITS)
    nats = scored(shared, "stories260k_decoder", given, metric="cross-entropy").value
    assert nats == pytest.approx(-1.239, abs=10 * DIGITS)
    found = scored(shared, "stories260k_decoder", given, metric="perplexity").value
    assert found == pytest.approx(-np.exp(-nats), rel=1e-9)


def test_super_resolution(shared: Path) -> None:
    data = load(shared, "superres_y_x3.npz")
    low, high = ((data[k] / 255).astype(np.float32)[:, None] for k in ("lr", "hr"))
    cut = slice(6, -6)

    def cropped(output: Array, label: Array) -> float:
        """The manifest leaves 6 pixels of the border out, and clips."""
        found = np.clip(output[..., cut, cut], 0, 1)
        return metrics.psnr([found], [label[None, :, cut, cut]])

    given = {"_ppp5_expanded": low, "labels": high}
    own = metrics.per_sample("psnr-y", cropped, "dB")
    record = scored(shared, "superres_espcn_x3_y", given, own=own)
    assert (record.samples, record.unit) == (89, "dB")
    assert record.value == pytest.approx(26.03, abs=0.005)


def test_speech(shared: Path) -> None:
    clean, noisy = workloads.speech()
    runs = []
    for i in (1, 2):
        session = open_session(shared / "models" / f"dtln_model_{i}.onnx")
        runs.append(lambda feed, s=session: s.run(feed))
    enhanced = workloads.enhance(runs[0], runs[1], noisy)
    delay = workloads.DTLN_DELAY
    outputs, labels = [enhanced[None, delay:]], [clean[:-delay]]
    found = metrics.si_sdr(outputs, labels)
    assert found == pytest.approx(workloads.si_sdr_db(clean, enhanced), rel=1e-9)
    # The manifest does not say which 8 s of the recording it took; others are 0.3 dB apart.
    assert found == pytest.approx(15.25, abs=0.2)
    assert metrics.si_sdr([noisy[None]], [clean]) == pytest.approx(5.004, abs=0.02)
