"""How many Arm instructions does each kernel of onnxruntime take per multiply-accumulate?

Models of one operator, as onnxruntime's optimiser leaves it (integer convolutions with channels at
the end, integer inputs and outputs, so that nothing is converted at the borders), run in the arm64
wheel under a QEMU that counts (arm64_counting.py). From every count that of a model with nothing in
it is subtracted. Counts repeat within the noise that is printed: every model is counted twice.

    python benchmarks/arm64_instructions.py [--folder PATH] [--processors T,...]

Instructions are no time: how many a core retires per cycle depends on the core and on caches.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arm64_counting import Counts, set_up_counter
from arm64_machine import PROCESSORS, MachineError, set_up
from arm64_models import default_machine
from graphopt import ir, testing
from graphopt.types import DType
from machine import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arm64_counting import Counter
    from graphopt.ir import Graph

RESULTS = Path(__file__).parent / "results" / "arm64_instructions.json"
TYPES = ("float32", "s8s8", "u8s8")


@dataclass(frozen=True)
class Shape:
    """One operator: a convolution of a square image, or a matrix product.

    Args:
        kind: cost class.
        columns: output channels, or columns.
        inputs: input channels, or what is summed over.
        size: width and height of the image, or rows.
        window: width and height of the filter.
        group: of a convolution.
    """

    kind: str
    columns: int
    inputs: int
    size: int
    window: int = 1
    group: int = 1

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product."""
        return self.kind in {"gemm", "gemv"}

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        rows = self.size if self.is_product else self.size**2
        return rows * self.columns * (self.inputs // self.group) * self.window**2

    @property
    def label(self) -> str:
        """What it is called in the results."""
        if self.is_product:
            return f"{self.kind} {self.size}x{self.inputs}x{self.columns}"
        channels = f"{self.inputs}->{self.columns}"
        return f"{self.kind} {self.window}x{self.window} {channels} {self.size}x{self.size}"


SHAPES = (
    Shape("conv", 64, 64, 56, 3),
    Shape("conv", 128, 128, 14, 3),
    Shape("conv", 16, 16, 32, 3),
    Shape("conv", 32, 3, 112, 3),
    Shape("conv", 64, 32, 28, 5),
    Shape("pointwise", 128, 128, 28),
    Shape("pointwise", 96, 16, 56),
    Shape("pointwise", 24, 96, 28),
    Shape("pointwise", 512, 512, 7),
    Shape("depthwise", 128, 128, 56, 3, 128),
    Shape("depthwise", 32, 32, 28, 3, 32),
    Shape("depthwise", 96, 96, 14, 5, 96),
    Shape("grouped", 128, 128, 28, 3, 4),
    Shape("gemm", 768, 768, 128),
    Shape("gemm", 256, 64, 32),
    Shape("gemv", 1024, 1024, 1),
)


def model(shape: Shape, kind: str) -> Graph:
    """Return the operator as onnxruntime executes it."""
    rng = np.random.default_rng(0)
    activation = {"float32": "float", "s8s8": "int8", "u8s8": "uint8"}[kind]
    given = [shape.size, shape.inputs] if shape.is_product else _image(shape, shape.inputs, kind)
    made = [shape.size, shape.columns] if shape.is_product else _image(shape, shape.columns, kind)
    weights = _weights(shape, kind, rng)
    body, constants = _operator(shape, kind, weights)
    held = ", ".join(f"{_text(array)} {name}" for name, array in constants.items())
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    text = f"{header} m ({activation}{given} x) => ({activation}{made} y) <{held}> {{ {body} }}"
    return testing.graph(text, **constants)


def _image(shape: Shape, channels: int, kind: str) -> list[int]:
    plain = [1, channels, shape.size, shape.size]
    return plain if kind == "float32" else [1, shape.size, shape.size, channels]


def _weights(shape: Shape, kind: str, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    dims = [shape.inputs, shape.columns]
    if not shape.is_product:
        dims = [shape.columns, shape.inputs // shape.group, shape.window, shape.window]
    if kind == "float32":
        return rng.standard_normal(dims).astype(np.float32)
    return rng.integers(-127, 128, dims).astype(np.int8)


def _operator(
    shape: Shape, kind: str, weights: np.ndarray[Any, Any]
) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    pad = shape.window // 2
    window = f"pads=[{pad}, {pad}, {pad}, {pad}], group={shape.group}"
    if kind == "float32":
        if shape.is_product:
            return "y = MatMul(x, w)", {"w": weights}
        bias = np.zeros(shape.columns, np.float32)
        return f"y = Conv<{window}>(x, w, b)", {"w": weights, "b": bias}
    zero = np.array(0 if kind == "s8s8" else 128, np.int8 if kind == "s8s8" else np.uint8)
    constants = {
        "w": weights, "s": np.array(0.05, np.float32), "z": zero,
        "ws": np.full(shape.columns, 0.01, np.float32), "wz": np.zeros(shape.columns, np.int8),
        "ys": np.array(0.5, np.float32),
    }  # fmt: skip
    if shape.is_product:
        return "y = QLinearMatMul(x, s, z, w, ws, wz, ys, z)", constants
    constants["b"] = np.zeros(shape.columns, np.int32)
    operator = f"com.microsoft.QLinearConv<channels_last=1, {window}>"
    return f"y = {operator}(x, s, z, w, ws, wz, ys, z, b)", constants


def _text(array: np.ndarray[Any, Any]) -> str:
    name = {"float32": "float"}.get(str(array.dtype), str(array.dtype))
    return f"{name}[{', '.join(map(str, array.shape))}]" if array.shape else name


def nothing() -> Graph:
    """Return a model that does next to nothing: what a call costs."""
    return testing.graph("m (float[1] x) => (float[1] y) { y = Neg(x) }")


def write(graph: Graph, home: Path) -> dict[str, str]:
    """Write a model and its feed; return the job."""
    home.mkdir()
    path, feeds = home / "model.onnx", home / "feeds.npz"
    ir.save(graph, path)
    value = graph.feeds[0]
    dtype = np.dtype((value.dtype or DType.FLOAT).numpy_name)
    rng = np.random.default_rng(1)
    shape = [d for d in value.shape or () if isinstance(d, int)]
    low, high = (-128, 128) if dtype == np.int8 else (0, 256)
    data = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(low, high, shape)
    np.savez(feeds, **{value.name: data.astype(dtype)})  # type: ignore[arg-type]
    return {"model": str(path), "feeds": str(feeds)}


def count(counter: Counter, processor: str) -> Iterator[dict[str, Any]]:
    """Yield a row for every operator and type on one processor."""
    cases = [(shape, kind) for shape in SHAPES for kind in TYPES]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [write(nothing(), folder / "nothing")]
        jobs += [write(model(*case), folder / str(i)) for i, case in enumerate(cases)]
        found = counter.run([job for job in jobs for _ in range(2)], processor)
    base = found[0]
    pairs = zip(found[2::2], found[3::2], strict=True)
    for (shape, kind), (first, second) in zip(cases, pairs, strict=True):
        yield _row(shape, kind, processor, first - base, second - base)


def _row(shape: Shape, kind: str, processor: str, one: Counts, two: Counts) -> dict[str, Any]:
    least = min(one, two, key=lambda c: c.instructions)
    most = max(one.instructions, two.instructions)
    return {
        "processor": processor,
        "operator": shape.label,
        "kind": shape.kind,
        "type": kind,
        "macs": shape.macs,
        "instructions": least.instructions,
        "memory": least.memory,
        "simd": least.simd,
        "macs_per_instruction": round(shape.macs / least.instructions, 3),
        "repeats_within": round(most / least.instructions - 1, 5),
    }


def by_class(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return multiply-accumulates per instruction by target, kernel class and type.

    They are those of the largest operator of the class.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in sorted(rows, key=lambda r: r["macs"]):
        kinds = found.setdefault(row["target"], {}).setdefault(row["kind"], {})
        kinds[row["type"]] = row["macs_per_instruction"]
    return found


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=default_machine())
    parser.add_argument("--processors", default=",".join(PROCESSORS))
    options = parser.parse_args()
    names = {PROCESSORS[name]: name for name in options.processors.split(",")}
    try:
        counter = set_up_counter(set_up(options.folder.resolve()))
        rows = [
            {"target": target, **row} for name, target in names.items()
            for row in count(counter, name)
        ]  # fmt: skip
    except MachineError as error:
        sys.exit(f"nothing to count with: {error}")
    for row in rows:
        print(row)
    summary = by_class(rows)
    print(json.dumps(summary, indent=1))
    content = {
        "machine": describe(),
        "processors": PROCESSORS,
        "noise": max(row["repeats_within"] for row in rows),
        "macs_per_instruction": summary,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
