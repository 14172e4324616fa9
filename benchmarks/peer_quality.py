"""What a contender's model is worth on the evaluation data, and which are acceptable.

Classifiers: top-1 in points. Decoder: next-token accuracy in points. Super-resolution: PSNR in dB.
The two models of the speech enhancer: SI-SDR in dB with the other one in float. All of them, and
models without labels: signal-to-noise ratio over all outputs against fp32 in dB.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from graphopt.pipeline import snr_db
from graphopt.runtime import Session, open_session
from workloads import Array, Workload, enhance, scores, si_sdr_db, speech, workloads

HERE = Path(__file__).parent
EXACT_DB = 100.0
"""Signal-to-noise ratios above this are rounding of floats, or none at all."""
ACCEPTABLE_SNR_DB = 20.0
ROUNDING = 1e-3
"""Points or dB by which scores of the same network may differ because floats are rounded."""
ACCEPTABLE_DROP = {"top1": 1.0, "next_token": 1.0, "psnr_db": 0.3, "si_sdr_db": 0.3}
ALLOWED_DROP = {"top1": 0.3, "psnr_db": 0.2, "si_sdr_db": 0.2}
"""What graphopt itself may lose, in points or dB."""


@dataclass(frozen=True)
class Quality:
    """One model on the evaluation data.

    Args:
        metric: of the scores: top1, next_token (points), psnr_db, si_sdr_db or snr_db.
        samples: the score of every sample, or one for all.
        snr_db: over all outputs against fp32, at most EXACT_DB.
        agreement: fraction of decisions that are the same as fp32's; None where there are none.
    """

    metric: str
    samples: tuple[float, ...]
    snr_db: float
    agreement: float | None

    @property
    def score(self) -> float:
        """The mean over the samples."""
        return float(np.mean(self.samples))


@dataclass(frozen=True)
class Loss:
    """How much worse than fp32, on the same samples, with the 95 % interval of the mean."""

    drop: float
    interval: tuple[float, float] | None


class Judge:
    """Scores sessions on one workload; the results for files are kept between runs.

    Args:
        workload: the model and its data.
        folder: where results are kept.
        limit: evaluate on at most this many samples, evenly spaced; 0 for all.
    """

    def __init__(self, workload: Workload, folder: Path, limit: int = 0) -> None:
        feeds, labels = workload.feeds(), workload.labels()
        self.step = -(-len(feeds) // limit) if limit else 1
        self.workload = workload
        self.feeds = feeds[:: self.step]
        self.labels = None if labels is None else labels[:: self.step]
        self.folder = folder
        original = open_session(workload.path)
        self.reference = [original.run(feed) for feed in self.feeds]

    def judge(self, path: Path, session: Session) -> Quality:
        """Return the quality of the model in ``path``, which ``session`` has open."""
        kept = self.folder / f"{self._key(path)}.json"
        if kept.exists():
            known = json.loads(kept.read_text())
            return Quality(**known | {"samples": tuple(known["samples"])})
        found = self._measure(session)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(found)))
        return found

    def _measure(self, session: Session) -> Quality:
        outputs = [session.run(feed) for feed in self.feeds]
        ratio = min(snr_db(_flat(self.reference), _flat(outputs)), EXACT_DB)
        first, wanted = [o[0] for o in outputs], [o[0] for o in self.reference]
        metric = self.workload.metric
        if self.workload.name.startswith("dtln"):
            return Quality("si_sdr_db", (_speech(self.workload, session),), ratio, None)
        if self.labels is None:
            return Quality("snr_db", (ratio,), ratio, None)
        unit = 1.0 if metric.endswith("_db") else 100.0
        samples = tuple(float(s) * unit for s in scores(self.workload, first, self.labels))
        return Quality(metric, samples, ratio, None if unit == 1.0 else _agreement(wanted, first))

    def _key(self, path: Path) -> str:
        digest = hashlib.sha256()
        for file in (path, self.workload.path, Path(__file__), HERE / "workloads.py"):
            digest.update(file.read_bytes())
        digest.update(str(self.step).encode())
        return f"{self.workload.name}-{digest.hexdigest()[:16]}"


def loss(before: Quality, after: Quality) -> Loss:
    """Return the paired difference between fp32 and a contender."""
    if before.metric == "snr_db":
        return Loss(0.0, None)
    differences = np.subtract(before.samples, after.samples)
    drop = float(differences.mean())
    if len(differences) == 1:
        return Loss(drop, None)
    half = 1.96 * float(differences.std(ddof=1)) / float(np.sqrt(len(differences)))
    return Loss(drop, (drop - half, drop + half))


def acceptable(before: Quality, after: Quality) -> bool:
    """Return whether a peer counts: 1 point lost at most, or 20 dB, or 0.3 dB of the metric."""
    within = loss(before, after).drop <= ACCEPTABLE_DROP.get(after.metric, -1.0)
    return within if after.metric == "top1" else within or after.snr_db >= ACCEPTABLE_SNR_DB


def as_good(peer: Quality, ours: Quality) -> bool:
    """Return whether a peer's score is at least ours."""
    return peer.score >= ours.score - ROUNDING


def _flat(outputs: list[list[Array]]) -> list[Array]:
    return [one for outputs_of_feed in outputs for one in outputs_of_feed]


def _agreement(wanted: list[Array], found: list[Array]) -> float:
    same = [np.mean(w.argmax(-1) == f.argmax(-1)) for w, f in zip(wanted, found, strict=True)]
    return float(np.mean(same))


def _speech(workload: Workload, session: Session) -> float:
    """Return SI-SDR of the pair with ``session`` in its place and the other model in float."""
    clean, noisy = speech()
    runs = [
        session if one.name == workload.name else open_session(one.path)
        for one in workloads(["dtln_model_1", "dtln_model_2"])
    ]
    return si_sdr_db(clean, enhance(runs[0].run, runs[1].run, noisy))
