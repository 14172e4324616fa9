"""What training must reach: the models, their samples, how each row is made, and what is asked.

Rows are made of other rows: "2x trained int8" is what int8 makes of "2x trained". A row that
trains is made once for every seed; one that is made of it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

FLOAT = "fp32"
OTHERS = "other pictures too, trained"
MOST_MINUTES = 15.0
"""That training may take, on two cores."""
INTEGER_LOSS = 0.5
"""Points that int8 may lose on top of pruning and training."""
FEW_BITS_LOSS = 1.0
"""Points that weights of 4 bits may lose against those of 8."""
LOST = 1.0
"""Points that small models may lose, and any model for its size."""
AGREEMENT = 0.90
"""Share of decisions that are fp32's, of the integer model of a compact network."""
NATS = 0.01
"""Cross-entropy that 4 bits may cost a decoder."""


@dataclass(frozen=True)
class Step:
    """How a row is made.

    Args:
        name: of the row.
        plan: key of ``training_models.PLANS``.
        source: the row whose model is compiled; the original by default.
        share: of the minutes of a run that this row's training takes; 0 where nothing is trained.
        others: whether pictures of other data sets are trained on as well.
    """

    name: str
    plan: str
    source: str = FLOAT
    share: float = 0.0
    others: bool = False


@dataclass(frozen=True)
class Subject:
    """One model.

    Args:
        name: of the workload.
        samples: unlabelled ones to calibrate, fit and train on.
        times: how many times fewer multiply-accumulates; 0 where it is not pruned.
        steps: the rows, each behind what it is made of.
        regained: share of the points that the closed form loses which training must bring back;
            None where points lost are limited instead.
        aim: share that is aimed at.
    """

    name: str
    samples: int
    times: float
    steps: tuple[Step, ...]
    regained: float | None = None
    aim: float | None = None


PRUNED = (
    Step("closed form", "prune"),
    Step("trained", "train", share=1.0),
)
INTEGER = (
    Step("int8", "integer"),
    Step("int8 trained", "train integer", share=0.4),
)
BOTH = (
    Step("trained, int8", "integer", source="trained"),
    Step("trained, int8 trained", "train integer", source="trained", share=0.4),
)
FEW_BITS = (
    Step("w4a8", "few bits"),
    Step("w4a8 trained", "train few bits", share=0.6),
)

SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "cifar10_resnet20_jpegft",
        2000,
        2.0,
        (*PRUNED, *BOTH, *INTEGER, *FEW_BITS),
        regained=1 / 2,
    ),
    Subject("cifar10_resnet56", 2000, 2.0, (*PRUNED, *BOTH, *INTEGER, *FEW_BITS), regained=1 / 2),
    Subject(
        "imagenet_proxyless_w025_r112",
        200,
        1.3,
        (*INTEGER, *PRUNED, Step(OTHERS, "train", share=1.0, others=True)),
        regained=1 / 3,
        aim=2 / 3,
    ),
    Subject("kws_dscnn_bn", 550, 1.5, (*INTEGER, *PRUNED, *BOTH)),
    Subject(
        "stories260k_decoder",
        64,
        0.0,
        (
            Step("w4", "weight only"),
            Step("w4 trained", "train weight only", share=1.0),
        ),
    ),
)


def verdicts(subject: Subject, rows: Mapping[str, Row]) -> dict[str, dict[str, bool]]:
    """Return the bars of each row that there is, by what they say; means over seeds count.

    Args:
        subject: the model.
        rows: by name, with "score", and "agreement" and "minutes" where there are such.
    """
    found = {name: _of_row(subject, name, rows) for name in rows}
    return {name: bars for name, bars in found.items() if bars}


def _of_row(subject: Subject, name: str, rows: Mapping[str, Row]) -> dict[str, bool]:
    row, before = rows[name], rows[FLOAT]
    bars: dict[str, bool] = {}
    if name.endswith("trained"):
        bars[f"at most {MOST_MINUTES:g} minutes"] = row["minutes"] <= MOST_MINUTES
    if name in ("trained", OTHERS) and subject.regained is not None and "closed form" in rows:
        bars |= _regained(subject, row, rows["closed form"], before)
    if name in ("trained", "int8 trained", "trained, int8 trained") and subject.regained is None:
        bars[f"at most {LOST:g} point lost"] = before["score"] - row["score"] <= LOST
    if name.startswith("trained, int8") and "trained" in rows:
        lost = rows["trained"]["score"] - row["score"]
        bars[f"int8 loses at most {INTEGER_LOSS:g} points more"] = lost <= INTEGER_LOSS
    if name == "int8 trained" and subject.name.startswith("imagenet") and "int8" in rows:
        said = f"agrees with fp32 on at least {AGREEMENT:g}"
        bars[said] = row["agreement"] >= AGREEMENT
        bars["top-1 not below that without training"] = row["score"] >= rows["int8"]["score"]
    if name == "w4a8 trained" and "int8 trained" in rows:
        lost = rows["int8 trained"]["score"] - row["score"]
        bars[f"at most {FEW_BITS_LOSS:g} point below int8"] = lost <= FEW_BITS_LOSS
    if name == "w4 trained":
        more = row["cross_entropy"] - before["cross_entropy"]
        bars[f"cross-entropy within {NATS:g} nats"] = more <= NATS
    return bars


def _regained(subject: Subject, row: Row, closed: Row, before: Row) -> dict[str, bool]:
    lost = before["score"] - closed["score"]
    back = row["score"] - closed["score"]
    bars = {
        f"regains at least {subject.regained:.2f} of what was lost": back >= lost * _of(subject)
    }
    if subject.aim is not None:
        bars[f"aim: regains at least {subject.aim:.2f}"] = back >= lost * subject.aim
    return bars


def _of(subject: Subject) -> float:
    assert subject.regained is not None
    return subject.regained
