"""What was measured on one device, kernel by kernel and model by model; plain data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from graphopt.cost.signature import Signature
from graphopt.cost.work import Product

CHAIN = "chain"
"""Context of a kernel that was timed in a chain of its like, without a profiler."""


@dataclass(frozen=True)
class KernelRow:
    """The time of one kernel.

    Args:
        signature: what decides it.
        threads: that it was measured with.
        min_us: shortest time, in microseconds.
        median_us: median, in microseconds.
        context: ``chain``, or ``model:NAME`` for a kernel inside a whole model, as onnxruntime's
            profiler saw it, its bias removed.
        activations: uint8 or int8 where the kernel computes with integers; else empty.
        shared: the part of a measured time that this kernel was given, 0 to 1.
        source: model that it comes from; rows of one source are not independent.
    """

    signature: Signature
    threads: int
    min_us: float
    median_us: float
    context: str = CHAIN
    activations: str = ""
    shared: float = 1.0
    source: str = ""


@dataclass(frozen=True)
class ModelRow:
    """The time of one inference of a whole model, without a profiler.

    Args:
        model: its name.
        family: architecture that it is of.
        precision: float32, u8s8 or s8s8.
        threads: that it was measured with.
        min_us: shortest time, in microseconds.
        median_us: median, in microseconds.
        kernels: what one inference executes, in order.
    """

    model: str
    family: str
    precision: str
    threads: int
    min_us: float
    median_us: float
    kernels: tuple[Signature, ...]


@dataclass(frozen=True)
class Drift:
    """One short model timed again and again during the measurement.

    A clock that changes stays changed for a while; a single slow look was disturbed by something
    else. So each time counts as the median of itself and its neighbours.

    Args:
        seconds: when.
        us: its shortest time each, in microseconds.
    """

    seconds: tuple[float, ...] = ()
    us: tuple[float, ...] = ()

    @cached_property
    def smooth(self) -> tuple[float, ...]:
        """The times without single slow ones, in microseconds."""
        reach = range(len(self.us))
        return tuple(statistics.median_low(self.us[max(i - 1, 0) : i + 2]) for i in reach)

    @property
    def spread(self) -> float:
        """Slowest over fastest, less one: 0 on a machine with a steady clock."""
        return max(self.smooth) / min(self.smooth) - 1.0 if self.us else 0.0

    def slowdown(self, second: float) -> float:
        """Return how much slower than at its best the device was then, interpolated; at least 1."""
        if not self.us:
            return 1.0
        return float(np.interp(second, self.seconds, self.smooth)) / min(self.smooth)


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured on one device.

    Args:
        device: its facts: processor, flags, runtime, cores, governor, clock.
        base: name of the built-in target that is nearest to it.
        rows: kernels.
        models: whole models.
        drift: of its clock.
        bias: what onnxruntime's profiler adds: the true time of a kernel is ``scale`` times its
            profiled one plus ``kernel_us``; an inference takes ``run_us`` besides its kernels.
        notes: what a reader should know.
    """

    device: dict[str, Any]
    base: str
    rows: tuple[KernelRow, ...]
    models: tuple[ModelRow, ...] = ()
    drift: Drift = field(default_factory=Drift)
    bias: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data; signatures are spread into the rows that they belong to."""
        spread = self.drift.spread
        return {
            "schema": 1,
            "device": self.device,
            "base": self.base,
            "drift": {**dataclasses.asdict(self.drift), "spread": spread},
            "bias": self.bias,
            "rows": [_flat(row) for row in self.rows],
            "models": [dataclasses.asdict(model) for model in self.models],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurements:
        """Return the measurements that ``to_json`` made plain; not for files of others."""
        drift = data["drift"]
        return cls(
            device=data["device"],
            base=data["base"],
            rows=tuple(_row(row) for row in data["rows"]),
            models=tuple(
                ModelRow(**{**m, "kernels": tuple(_signature(k) for k in m["kernels"])})
                for m in data["models"]
            ),
            drift=Drift(tuple(drift["seconds"]), tuple(drift["us"])),
            bias=data["bias"],
            notes=tuple(data["notes"]),
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the measurements as JSON."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _flat(row: KernelRow) -> dict[str, Any]:
    plain = dataclasses.asdict(row)
    return {**plain.pop("signature"), **plain}


def _row(plain: dict[str, Any]) -> KernelRow:
    own = {f.name for f in dataclasses.fields(KernelRow)}
    rest = {key: value for key, value in plain.items() if key in own}
    return KernelRow(_signature({k: v for k, v in plain.items() if k not in own}), **rest)


def _signature(plain: dict[str, Any]) -> Signature:
    product = plain.get("product")
    return Signature(**{**plain, "product": Product(**product) if product else None})
