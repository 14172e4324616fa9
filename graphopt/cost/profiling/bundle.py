"""Packs what is measured: models, what they are fed with, and the program that times them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.cost.profiling.catalogue import SEED, micro_models
from graphopt.cost.profiling.nets import Net, anchor, nets
from graphopt.cost.profiling.plans import FAVOURED
from graphopt.ir import to_bytes
from graphopt.runtime import device
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.cost.profiling.builder import Builder
    from graphopt.cost.profiling.micro import Micro

_NET_WEIGHT = 3.0
"""Share of the time that a whole model gets, over that of a micro-model."""

_SHEBANG = b"#!/usr/bin/env python3\n"
_EPOCH = (2026, 1, 1, 0, 0, 0)
"""Time of every member of an archive, so that equal contents are equal bytes."""


@dataclass(frozen=True)
class Job:
    """One thing to measure: models that are timed in turns.

    Args:
        name: of the micro-model, or ``net/`` and the name of the whole network.
        model: that it is made from.
        counts: units of each of its models; empty for a whole network.
    """

    name: str
    model: Micro | Net
    counts: tuple[int, ...] = ()

    @property
    def is_net(self) -> bool:
        """Whether it is a whole network."""
        return isinstance(self.model, Net)

    def builders(self) -> list[Builder]:
        """Return its networks, shortest first."""
        if isinstance(self.model, Net):
            return [self.model.build()]
        return [self.model.build(count) for count in self.counts]

    def longest(self) -> Builder:
        """Return the network whose kernels are profiled."""
        if isinstance(self.model, Net):
            return self.model.build()
        return self.model.build(self.counts[-1])


@cache
def jobs(seed: int = SEED) -> tuple[Job, ...]:
    """Return everything that a bundle measures."""
    chains = [Job(micro.name, micro, micro.lengths()) for micro in micro_models(seed)]
    whole = [Job(f"net/{net.name}", net) for net in nets()]
    return (*chains, *whole)


def write_archive(chosen: Iterable[Job] | None = None) -> bytes:
    """Return a zip archive that Python runs: the program, the models and their manifest.

    The same bytes for the same graphopt; about 12 MB, for weights repeat (``builder.PATTERN``).

    Args:
        chosen: what is measured; everything when None.
    """
    members = dict(_members(jobs() if chosen is None else tuple(chosen)))
    members |= _program()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return _SHEBANG + buffer.getvalue()


def _program() -> dict[str, bytes]:
    """Return the program under the names that its modules have here, so that it runs as it is."""
    folder = Path(device.__file__).parent
    package = "graphopt/runtime/device/"
    members = {f"{package}{name}": (folder / name).read_bytes() for name in device.MODULES}
    empty = dict.fromkeys(("graphopt/__init__.py", "graphopt/runtime/__init__.py"), b"")
    return {**members, **empty, "__main__.py": _MAIN}


_MAIN = b"""import sys

from graphopt.runtime.device.measure import main

sys.exit(main())
"""


def _members(chosen: tuple[Job, ...]) -> Iterator[tuple[str, bytes]]:
    described = []
    content = hashlib.sha256()
    for number, job in enumerate(chosen):
        files = []
        for index, builder in enumerate(job.builders()):
            files.append(f"models/{number:03d}-{index}.onnx")
            data = to_bytes(builder.graph)
            content.update(data)
            yield files[-1], data
        described.append(_description(job, files, builder.feeds))
    steady = anchor()
    yield "models/anchor.onnx", to_bytes(steady.graph)
    manifest = {
        "schema": device.SCHEMA,
        "version": VERSION,
        "seed": SEED,
        "anchor": {"file": "models/anchor.onnx", "feeds": steady.feeds},
        "content": content.hexdigest(),
        "jobs": described,
    }
    yield "manifest.json", json.dumps(manifest, sort_keys=True, indent=1).encode()


def _description(job: Job, files: list[str], feeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(job.model, Net):
        parallel, machines = True, FAVOURED.get(job.model.precision, "")
    else:
        parallel, machines = job.model.parallel, job.model.machines
    return {
        "name": job.name,
        "files": files,
        "feeds": feeds,
        "parallel": parallel,
        "machines": machines,
        "early": job.is_net,
        "weight": _NET_WEIGHT if job.is_net else 1.0,
    }
