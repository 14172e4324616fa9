"""Accuracy of compiled models on labelled data that they were not calibrated on.

Scores are paired: the same samples through the original and the compiled model. The drop has a
95 % interval (normal approximation of the mean of per-sample differences). Where fewer than
MANY images are labelled, each is also scored in six views, mirrored or shifted by 3 pixels, which a
photograph's label survives: the mean over views of a photo counts as one sample, and its interval
is about half as wide. The DTLN pair is scored together, as it is used. Models without labels are
compared with the original.

    python benchmarks/accuracy.py [--targets host,arm,mcu] [MODEL…]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import cast

import numpy as np

import graphopt
from graphopt.errors import GraphOptError, LimitError
from graphopt.pipeline import snr_db
from graphopt.runtime import Session, open_session
from machine import describe
from workloads import Array, Workload, enhance, scores, si_sdr_db, speech, workloads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "accuracy.json"
MANY = 800
VIEWS = ((False, 0, 0), (True, 0, 0), (False, 3, 0), (False, -3, 0), (True, 0, 3), (True, 0, -3))
"""Mirrored, rows and columns shifted by."""
LIMIT = {"top1": 0.3, "next_token": 0.3, "psnr_db": 0.2, "si_sdr_db": 0.2}
"""What may be lost: points, or dB."""


def outputs_of(session: Session, workload: Workload) -> list[Array]:
    """Return the first output for every evaluation feed."""
    return [session.run(feed)[0] for feed in workload.feeds()]


def seen_from(feed: dict[str, Array], view: tuple[bool, int, int]) -> dict[str, Array]:
    """Return one image mirrored and shifted; its edge is repeated where nothing is known."""
    mirrored, rows, columns = view
    ((name, image),) = feed.items()
    image = image[..., ::-1] if mirrored else image
    far = max(abs(rows), abs(columns))
    wide = np.pad(image, ((0, 0), (0, 0), (far, far), (far, far)), mode="edge")
    height, width = image.shape[2:]
    cut = wide[:, :, far + rows : far + rows + height, far + columns : far + columns + width]
    return {name: np.ascontiguousarray(cut)}


def in_views(workload: Workload, original: Session, found: Session) -> dict[str, object]:
    """Return the drop over all views, with the interval of the mean over photos."""
    labels = workload.labels()
    assert labels is not None
    drops, before = [], []
    for view in VIEWS:
        feeds = [seen_from(feed, view) for feed in workload.feeds()]
        one, other = ([s.run(f)[0] for f in feeds] for s in (original, found))
        before.append(scores(workload, one, labels) * 100.0)
        drops.append(before[-1] - scores(workload, other, labels) * 100.0)
    drop = np.mean(drops, axis=0)
    half = 1.96 * drop.std(ddof=1) / np.sqrt(len(drop))
    return {
        "views": len(VIEWS),
        "before_in_views": round(float(np.mean(before)), 3),
        "drop_in_views": round(float(drop.mean()), 3),
        "interval_in_views": [
            round(float(drop.mean() - half), 3),
            round(float(drop.mean() + half), 3),
        ],
    }


def compiled_session(workload: Workload, target: str, data: Path) -> tuple[Session, str]:
    """Compile and open; a target that is too small still gives a model to score."""
    note = ""
    try:
        compiled = graphopt.compile(workload.path, target=target, data=data)
    except LimitError as error:
        compiled, note = cast("graphopt.Compiled", error.compiled), f"{error.code}: {error.message}"
    return compiled.session(), note


def paired(workload: Workload, reference: list[Array], found: list[Array]) -> dict[str, object]:
    """Return metric before and after, the drop, and its interval, in points or dB."""
    labels = workload.labels()
    row: dict[str, object] = {"snr_db": round(snr_db(reference, found), 2)}
    if labels is None:
        return row
    unit = 1.0 if workload.metric.endswith("_db") else 100.0
    before = scores(workload, reference, labels) * unit
    after = scores(workload, found, labels) * unit
    drop = before - after
    half = 1.96 * drop.std(ddof=1) / np.sqrt(len(drop))
    row |= {
        "metric": workload.metric,
        "n": len(drop),
        "before": round(float(before.mean()), 3),
        "after": round(float(after.mean()), 3),
        "drop": round(float(drop.mean()), 3),
        "interval": [round(float(drop.mean() - half), 3), round(float(drop.mean() + half), 3)],
    }
    row["holds"] = bool(drop.mean() <= LIMIT[workload.metric] or drop.mean() - half <= 0.0)
    return row


def main() -> None:
    """Score every model on every target; exit 1 when one loses more than the project allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--targets", default="host,arm,mcu")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for target in arguments.targets.split(","):
            pair: dict[str, Session] = {}
            for workload in workloads(arguments.models):
                data = workload.write_calibration(folder)
                try:
                    session, note = compiled_session(workload, target, data)
                except GraphOptError as error:
                    rows.append({"model": workload.name, "target": target, "error": str(error)})
                    print(rows[-1], flush=True)
                    continue
                original = open_session(workload.path)
                reference = outputs_of(original, workload)
                row = {"model": workload.name, "target": target}
                row |= paired(workload, reference, outputs_of(session, workload))
                if row.get("metric") == "top1" and len(reference) < MANY:
                    row |= in_views(workload, original, session)
                rows.append(row | ({"note": note} if note else {}))
                print(rows[-1], flush=True)
                if workload.name.startswith("dtln"):
                    pair[workload.name] = session
            if len(pair) == 2:
                rows.append(score_speech(pair, target))
                print(rows[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    if not arguments.models:
        RESULTS.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")
    sys.exit(0 if all(r.get("holds", True) and "error" not in r for r in rows) else 1)


def score_speech(pair: dict[str, Session], target: str) -> dict[str, object]:
    """Return SI-SDR of the DTLN pair before and after."""
    clean, noisy = speech()
    folder = next(workloads(["dtln_model_1"])).path.parent
    originals = [open_session(folder / f"dtln_model_{i}.onnx") for i in (1, 2)]
    compiled = [pair["dtln_model_1"], pair["dtln_model_2"]]
    before, after = (
        si_sdr_db(clean, enhance(one.run, two.run, noisy)) for one, two in (originals, compiled)
    )
    return {
        "model": "dtln (both models)",
        "target": target,
        "metric": "si_sdr_db",
        "before": round(before, 3),
        "after": round(after, 3),
        "drop": round(before - after, 3),
        "holds": before - after <= LIMIT["si_sdr_db"],
    }


if __name__ == "__main__":
    main()
