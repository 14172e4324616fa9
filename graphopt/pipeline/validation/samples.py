"""The samples that a model is judged on: none that anything was calibrated on, in a fixed order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.dataset import Subset, feed_pieces
from graphopt.errors import DataError

if TYPE_CHECKING:
    from graphopt.calibration.base import Dataset, Feed

    Array = np.ndarray[Any, Any]

_FEWEST = 2
_CLASSES_AT_MOST = 0.5
"""Labels with more different values than this share of the samples are not classes to stratify by.
"""


@dataclass(frozen=True)
class Validation:
    """Samples to judge models on, and those that they must not be among.

    Args:
        candidates: what was set aside; a sample of it whose bytes are also among those calibrated
            on is dropped.
        calibrated: what ranges are measured on.
        fitted: what layers are fitted to, where they are; the same samples may be in both.
    """

    candidates: Dataset
    calibrated: Dataset
    fitted: Dataset | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The samples without those that occur among the calibrated ones, by content.

        Raises:
            DataError: G216, fewer than two samples are left.
        """
        used = self._used
        found = [i for i, feed in enumerate(self.candidates) if _digest(feed) not in used]
        if len(found) < _FEWEST:
            raise DataError(
                f"{len(found)} samples are left to judge the model on: the other "
                f"{len(self.candidates) - len(found)} are also calibrated on",
                code="G216",
                where=self.candidates.origin,
                hint="give more samples, or others to judge on with --validation",
            )
        whole = len(found) == len(self.candidates)
        return self.candidates if whole else Subset(self.candidates, found)

    @property
    def used(self) -> int:
        """How many different samples were calibrated on or fitted to."""
        return len(self._used)

    @cached_property
    def _used(self) -> set[bytes]:
        fitted = _digests(self.fitted) if self.fitted is not None else set()
        return _digests(self.calibrated) | fitted

    @property
    def dropped(self) -> int:
        """How many were dropped because their bytes are also calibrated on."""
        return len(self.candidates) - len(self.dataset)


def _digests(dataset: Dataset) -> set[bytes]:
    return {_digest(feed) for feed in dataset}


def _digest(feed: Feed) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for piece in feed_pieces(dict(sorted(feed.items()))):
        hasher.update(piece)
    return hasher.digest()


def shuffled(count: int, labels: Array | None, seed: int) -> Array:
    """Return the order in which samples are taken: each prefix is a sample of the whole.

    Where labels are class numbers each prefix has about the share of each class that the whole has:
    the samples of a class, shuffled, are spread evenly over the order, from a random start.

    Args:
        count: samples.
        labels: one per sample, or None.
        seed: of the shuffling.

    Returns:
        int64 [count], a permutation.
    """
    random = np.random.default_rng([seed, count])
    order = random.permutation(count)
    if labels is None or not _can_stratify(labels, count):
        return order
    classes = np.ravel(labels)[order]
    place = np.empty(count)
    for each in np.unique(classes):
        members = np.flatnonzero(classes == each)
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return order[np.argsort(place, kind="stable")]


def _can_stratify(labels: Array, count: int) -> bool:
    if labels.dtype.kind not in "iub" or labels.size != count:
        return False
    return len(np.unique(labels)) <= _CLASSES_AT_MOST * count
