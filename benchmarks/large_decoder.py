"""A 2 GB decoder of random weights, compressed to 4 bits: peak memory and time.

The model is written with external data, layer by layer; graphopt compiles it in a fresh process
through its command line with the preset ``weight-only``, and another fresh process runs the result.
Peak memory is the largest resident set of the process (``ru_maxrss``), mapped files included.

    python benchmarks/large_decoder.py [--gigabytes 2] [--bits 4] [--method auto] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from machine import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "large_decoder.json"
LIMIT_BYTES = 2.5e9
VOCABULARY, WIDTH, HIDDEN, HEADS = 32000, 2048, 5632, 16
LAYER_WEIGHTS = 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN


class Writer:
    """Builds the graph and streams its weights to the data file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = (folder / "decoder.onnx.data").open("wb")
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def weight(self, name: str, rows: int, columns: int) -> str:
        """Write a matrix of normal values that keep the size of what they multiply."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[rows, columns])
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": "decoder.onnx.data", "offset": self.data.tell()}
        for start in range(0, rows, 1024):
            count = min(1024, rows - start)
            part = self.random.standard_normal((count, columns), np.float32) / np.sqrt(rows)
            part.astype(np.float32).tofile(self.data)
        place["length"] = rows * columns * 4
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        return name

    def small(self, name: str, values: np.ndarray) -> str:
        """Store a small constant inside the model."""
        self.tensors.append(onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def write_decoder(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """Write a Llama-like decoder without a cache; return its path and the bytes of its weights."""
    made = Writer(folder)
    layers = max(1, round((gigabytes * 1e9 / 4 - 2 * VOCABULARY * WIDTH) / LAYER_WEIGHTS))
    while (2 * VOCABULARY * WIDTH + layers * LAYER_WEIGHTS) * 4 < gigabytes * 1e9:
        layers += 1
    x = made.node("Gather", [made.weight("embedding", VOCABULARY, WIDTH), "ids"], "embedded")
    made.small("epsilon", np.array(1e-5, np.float32))
    made.small("two", np.array(2, np.float32))
    made.small("last", np.array([-1], np.int64))
    made.small("split", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    made.small("joined", np.array([0, 0, WIDTH], np.int64))
    made.small("root", np.array((WIDTH // HEADS) ** -0.5, np.float32))
    # The embedding has entries of 1 / sqrt(vocabulary); the norm makes up for it.
    for index in range(layers):
        x = add_layer(made, f"layer{index}", x)
    logits = made.weight("head", WIDTH, VOCABULARY)
    made.node("MatMul", [norm(made, "final", x), logits], "logits")
    made.data.close()
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", VOCABULARY])
    graph = helper.make_graph(made.nodes, "decoder", [ids], [out], made.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "decoder.onnx"
    path.write_bytes(model.SerializeToString())
    return path, (folder / "decoder.onnx.data").stat().st_size


def norm(made: Writer, name: str, x: str) -> str:
    """Add a root-mean-square norm."""
    square = made.node("Pow", [x, "two"], f"{name}.square")
    mean = made.node("ReduceMean", [square, "last"], f"{name}.mean", keepdims=1)
    root = made.node("Sqrt", [made.node("Add", [mean, "epsilon"], f"{name}.sum")], f"{name}.root")
    scale = made.small(f"{name}.scale", np.ones(WIDTH, np.float32))
    return made.node("Mul", [made.node("Div", [x, root], f"{name}.unit"), scale], f"{name}.normed")


def add_layer(made: Writer, name: str, x: str) -> str:
    """Add attention and a gated feed-forward network, with their residuals."""
    normed = norm(made, f"{name}.attention", x)
    heads = {}
    for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        weight = made.weight(f"{name}.{part}.weight", WIDTH, WIDTH)
        product = made.node("MatMul", [normed, weight], f"{name}.{part}")
        split = made.node("Reshape", [product, "split"], f"{name}.{part}.split")
        heads[part] = made.node("Transpose", [split], f"{name}.{part}.heads", perm=order)
    scores = made.node("MatMul", [heads["q"], heads["k"]], f"{name}.scores")
    scaled = made.node("Mul", [scores, "root"], f"{name}.scaled")
    shares = made.node("Softmax", [scaled], f"{name}.shares", axis=-1)
    mixed = made.node("MatMul", [shares, heads["v"]], f"{name}.mixed")
    turned = made.node("Transpose", [mixed], f"{name}.turned", perm=[0, 2, 1, 3])
    joined = made.node("Reshape", [turned, "joined"], f"{name}.joined")
    weight = made.weight(f"{name}.o.weight", WIDTH, WIDTH)
    x = made.node("Add", [x, made.node("MatMul", [joined, weight], f"{name}.o")], f"{name}.mid")
    normed = norm(made, f"{name}.feed", x)
    products = [
        made.node(
            "MatMul", [normed, made.weight(f"{name}.{p}.weight", WIDTH, HIDDEN)], f"{name}.{p}"
        )
        for p in ("gate", "up")
    ]
    gate = made.node("Sigmoid", [products[0]], f"{name}.sigmoid")
    silu = made.node("Mul", [products[0], gate], f"{name}.silu")
    gated = made.node("Mul", [silu, products[1]], f"{name}.gated")
    down = made.weight(f"{name}.down.weight", HIDDEN, WIDTH)
    return made.node("Add", [x, made.node("MatMul", [gated, down], f"{name}.down")], f"{name}.out")


def compile_it(model: Path, output: Path, settings: list[str]) -> dict[str, float]:
    """Compile in a fresh process; return seconds and peak bytes."""
    command = [sys.executable, "-m", "graphopt", "--no-progress", "compile", str(model)]
    command += ["--recipe", "weight-only", "-o", str(output), "--strict"]
    command += [part for setting in settings for part in ("--set", setting)]
    return measured(command)


def run_it(model: Path) -> dict[str, float]:
    """Run the result in a fresh process; return seconds and peak bytes."""
    return measured([sys.executable, __file__, "--run", str(model)])


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; return seconds and the largest resident set of its process, in bytes."""
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, {**os.environ, "GRAPHOPT_CACHE": ""})
    _, status, usage = os.wait4(child, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def run(model: Path) -> None:
    """Open the model and run it on eight tokens; fail unless the outputs are finite and vary."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ids = np.arange(8, dtype=np.int64)[None] * 1000
    logits = session.run(None, {"ids": ids})[0]
    assert logits.shape == (1, 8, VOCABULARY)
    assert np.isfinite(logits).all()
    assert logits.std() > 0.1
    kernels = sorted({n.op_type for n in onnx.load(model, load_external_data=False).graph.node})
    print("runs:", ", ".join(kernels))


def bench(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Write, compile, run; return the figures."""
    model, weights = write_decoder(folder, arguments.gigabytes)
    output = folder / "small.onnx"
    settings = [
        f"quantize-weights.bits={arguments.bits}",
        f"quantize-weights.method={arguments.method}",
        f"quantize-weights.embedding-bits={arguments.embedding_bits}",
    ]
    compiled = compile_it(model, output, settings)
    written = sum(p.stat().st_size for p in folder.glob("small.onnx*"))
    report = json.loads(output.with_suffix(".json").read_text())
    step = next(p for p in report["passes"] if p["name"] == "quantize-weights")
    row: dict[str, object] = {
        "machine": describe(),
        "weights_bytes": weights,
        "settings": settings,
        "compile": compiled,
        "limit_bytes": LIMIT_BYTES,
        "within": compiled["peak_bytes"] < LIMIT_BYTES,
        "written_bytes": written,
        "snr_db": step["snr_db"],
        "notes": step["notes"],
        "run": run_it(output),
    }
    return row


def folders(keep: Path | None) -> Iterator[Path]:
    """Yield the folder to work in; one of its own that is removed afterwards, by default."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--embedding-bits", type=int, default=4)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run)
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for folder in folders(arguments.keep):
        row = bench(folder, arguments)
    print(json.dumps(row, indent=2))
    RESULTS.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
