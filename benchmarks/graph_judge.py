"""What a model computes against the original: graph_judge.py MODEL ORIGINAL SCRATCH, prints JSON.

Runs in a process of its own, as models of other tools may crash the runtime. MODEL may be ORIGINAL:
then the record also holds the yardsticks, and its outputs are left in SCRATCH for the others.

Outputs are compared without the runtime's optimiser, by max|difference| / max|original| of the
worst output of both sizes; infinite where shape, type, or what is not finite differs. Yardsticks
are how far the original's own outputs move when the runtime optimises it (`optimised`), and when
every weight changes by at most its last bit (`last_bit`).
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from graph_inputs import feeds
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAKEN_LIMIT = 1 << 30
"""Larger models are not copied to change the last bits of their weights."""

FAMILIES = {
    "FusedConv": "Conv",
    "NhwcFusedConv": "Conv",
    "NhwcMaxPool": "",
    "FusedGemm": "Gemm",
    "TransposeMatMul": "FusedMatMul",
    "SkipLayerNormalization": "LayerNormalization",
    "SkipSimplifiedLayerNormalization": "SimplifiedLayerNormalization",
    "RMSNormalization": "SimplifiedLayerNormalization",
    "EmbedLayerNormalization": "LayerNormalization",
    "MultiHeadAttention": "Attention",
    "GroupQueryAttention": "Attention",
    "BiasGelu": "Gelu",
    "FastGelu": "Gelu",
    "QuickGelu": "QuickGelu",
}
"""Kernels by what they compute, where several do the same; empty for changes of layout."""

STANDARD = {"LayerNormalization", "Gelu", "RMSNormalization", "Attention", "RotaryEmbedding",
            "SimplifiedLayerNormalization"}  # fmt: skip
"""Fused kernels in the standard domain."""


def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of all graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from walk(inner)


def operators(path: Path) -> Counter[str]:
    """Return how often each operator occurs, functions where they are called included.

    A call of a function counts as the nodes of its body.
    """
    model = onnx.load(path, load_external_data=False)
    bodies = {(f.domain, f.name): list(f.node) for f in model.functions}
    found: Counter[str] = Counter()
    pending = list(walk(model.graph))
    while pending:
        node = pending.pop()
        body = bodies.get((node.domain, node.op_type))
        if body is not None:
            pending += body
        else:
            domain = "" if node.domain in {"", "ai.onnx"} else f"{node.domain}."
            found[f"{domain}{node.op_type}"] += 1
    return found


def fused(kernels: Counter[str]) -> dict[str, int]:
    """Return the fused kernels of an executed graph by what they compute."""
    found: Counter[str] = Counter()
    for kernel, count in kernels.items():
        domain, _, op = kernel.rpartition(".")
        family = FAMILIES.get(op, op)
        special = domain.startswith("com.microsoft") and not op.startswith("Reorder")
        if family and (special or op in STANDARD):
            found[family] += count
    return dict(sorted(found.items()))


def outputs(model: Path | bytes, *, optimize: bool) -> list[list[Any]]:
    """Return what a model computes at both sizes."""
    session = open_session(model, optimize=optimize)
    return [session.run(feed) for feed in feeds(session.inputs)]


def difference(wanted: list[list[Any]], found: list[list[Any]]) -> float:
    """Return the largest relative difference of any output."""
    pairs = [
        (a, b)
        for one, two in zip(wanted, found, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    return max((_difference(np.asarray(a), np.asarray(b)) for a, b in pairs), default=0.0)


def _difference(wanted: Any, found: Any) -> float:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return math.inf
    if wanted.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(wanted, found) else math.inf
    usable = np.isfinite(wanted)
    if not np.array_equal(wanted[~usable], found[~usable], equal_nan=wanted.dtype.kind == "f"):
        return math.inf
    if not usable.any():
        return 0.0
    one, two = wanted[usable].astype(np.float64), found[usable].astype(np.float64)
    apart = float(np.abs(one - two).max())
    return apart / max(float(np.abs(one).max()), 1e-6) if apart else 0.0


def shaken(path: Path) -> bytes | None:
    """Return the model with every float weight changed by at most its last bit."""
    model = onnx.load(path)
    if model.ByteSize() > SHAKEN_LIMIT:
        return None
    random = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            moved = values * (1 + random.integers(-1, 2, values.shape) * np.float32(2**-23))
            tensor.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    return model.SerializeToString()


def yardsticks(path: Path, wanted: list[list[Any]]) -> dict[str, float | None]:
    """Return how far the original's own outputs move."""
    moved = shaken(path)
    return {
        "optimised": difference(wanted, outputs(path, optimize=True)),
        "last_bit": None if moved is None else difference(wanted, outputs(moved, optimize=False)),
    }


def kept(folder: Path) -> list[list[Any]]:
    """Return the original's outputs that are left in a folder."""
    found = []
    for path in sorted(folder.glob("outputs*.npz")):
        with np.load(path) as data:
            found.append([data[key] for key in sorted(data.files)])
    return found


def keep(folder: Path, wanted: list[list[Any]]) -> None:
    """Leave the original's outputs in a folder."""
    for index, arrays in enumerate(wanted):
        named = {f"output{number:04d}": a for number, a in enumerate(arrays)}
        np.savez(folder / f"outputs{index}.npz", **named)


def census(path: Path, folder: Path) -> dict[str, Any]:
    """Return how many kernels the runtime executes, and the fused ones among them."""
    dump = folder / "executed.onnx"
    open_session(path, dump=dump)
    kernels = operators(dump)
    dump.unlink()
    return {"executed": sum(kernels.values()), "fused": fused(kernels)}


def record(model: Path, original: Path, folder: Path) -> dict[str, Any]:
    """Return everything about one model."""
    found = operators(model)
    constants = found.pop("Constant", 0)
    made: dict[str, Any] = {
        "nodes": sum(found.values()),
        "constant_nodes": constants,
        "operators": dict(sorted(found.items())),
        "megabytes": round(
            sum(p.stat().st_size for p in model.parent.glob(f"{model.name}*")) / 1e6, 3
        ),
    }
    try:
        got = outputs(model, optimize=False)
        if model == original:
            keep(folder, got)
            made["moves"] = yardsticks(model, got)
        else:
            made["error"] = difference(kept(folder), got)
            made["error_optimised"] = difference(kept(folder), outputs(model, optimize=True))
        made |= census(model, folder)
    except Exception as error:
        made["refused"] = str(error.__cause__ or error).strip().splitlines()[0][:300]
    return made


if __name__ == "__main__":
    print(json.dumps(record(*(Path(argument) for argument in sys.argv[1:4]))))
