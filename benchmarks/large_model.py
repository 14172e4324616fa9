"""Models of 3 GB through graphopt's command line: peak memory, time, and the largest protobuf.

Three models of random float32 weights, written layer by layer to external data:

- ``decoder``: the Llama-like decoder of ``large_decoder.py``, its normalizations and attention
  spelled out.
- ``tied``: products whose every matrix is stored turned and turned back when the model runs, three
  quarters of them copies of four matrices, and an embedding that is also the head.
- ``bombs``: the decoder again, small, and beside it ConstantOfShape, Expand, Tile and Range that
  each make 64 MiB out of nothing, 2.6 GB together: what onnxsim failed at (issues 178, 272, 291).

Each command runs in a process of its own, in which every call of ``SerializeToString`` and
``ParseFromString`` is measured. Peak memory is the kernel's ``VmHWM``, mapped pages of files
included; beside it, the largest anonymous part of it, sampled 50 times a second: memory that no
file holds.
Seconds are of the clock, and contain waiting for whatever else runs; processor seconds do not. The
compiled model is then run beside the original by this script's own sessions, one at a time.

    python benchmarks/large_model.py [--gigabytes 3] [--keep FOLDER] [MODEL...]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from large_decoder import Writer, folders, write_decoder
from machine import describe

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "large_model.json"
PEAK_LIMIT = 1.5e9
PROTOBUF_LIMIT = 2**31
TOLERANCE = 1e-5
COMMANDS = ("inspect", "compile", "diff", "estimate", "doctor")
_MATRIX = 4096
_BOMBS = 10
_BOMB_ROWS = 512
_BOMB_COLUMNS = 32768


# -- models --------------------------------------------------------------------------------


def write_tied(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """Write a chain of products by turned matrices, most of which are stored several times."""
    made = Writer(folder)
    count = max(8, round(gigabytes * 1e9 / (4 * _MATRIX**2)))
    table = made.weight("embedding", _MATRIX, _MATRIX)
    x = made.node("Gather", [table, "ids"], "embedded")
    for index in range(count - 1):
        made.random = np.random.default_rng(index if index % 4 == 0 else index % 4)
        matrix = made.weight(f"matrix{index}", _MATRIX, _MATRIX)
        turned = made.node("Transpose", [matrix], f"turned{index}", perm=[1, 0])
        x = made.node("MatMul", [x, turned], f"product{index}")
        if index % 2:
            x = made.node("Tanh", [x], f"bent{index}")
    head = made.node("Transpose", [table], "head", perm=[1, 0])
    made.node("MatMul", [x, head], "logits")
    return finish(made, folder, _MATRIX)


def write_bombs(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """Write a decoder of a quarter of the size, with constants that operators make large."""
    path, _ = write_decoder(folder, gigabytes / 4)
    model = onnx.load(path, load_external_data=False)
    rows = [_BOMB_ROWS + index for index in range(_BOMBS)]  # no two are equal
    for name, values in {
        **{f"rows{i}": np.array([n, _BOMB_COLUMNS], np.int64) for i, n in enumerate(rows)},
        **{f"end{i}": np.array(n * _BOMB_COLUMNS, np.int64) for i, n in enumerate(rows)},
        "one": np.ones((1, 1), np.float32),
        "none": np.array(0, np.int64),
        "step": np.array(2, np.int64),
        "places": np.zeros((1,), np.int64),
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, f"bomb.{name}"))
    graph, node = model.graph, helper.make_node
    parts = []
    for index in range(_BOMBS):
        made = [f"bomb{index}.{kind}" for kind in ("filled", "wide", "tiled", "counted")]
        size, end = f"bomb.rows{index}", f"bomb.end{index}"
        graph.node.append(node("ConstantOfShape", [size], [made[0]]))
        graph.node.append(node("Expand", ["bomb.one", size], [made[1]]))
        graph.node.append(node("Tile", ["bomb.one", size], [made[2]]))
        graph.node.append(node("Range", ["bomb.none", end, "bomb.step"], [made[3]]))
        for name in made:
            taken, numbers, total = (f"{name}.{part}" for part in ("taken", "numbers", "mean"))
            graph.node.append(node("Gather", [name, "bomb.places"], [taken], axis=0))
            graph.node.append(node("Cast", [taken], [numbers], to=TensorProto.FLOAT))
            graph.node.append(node("ReduceMean", [numbers], [total], keepdims=0))
            parts.append(total)
    graph.node.append(node("Sum", parts, ["bomb.sum"]))
    graph.node.append(node("Add", ["logits", "bomb.sum"], ["shifted"]))
    graph.output[0].name = "shifted"
    path.write_bytes(model.SerializeToString())
    return path, (folder / "decoder.onnx.data").stat().st_size


def finish(made: Writer, folder: Path, columns: int) -> tuple[Path, int]:
    """Write the graph of what was streamed to the data file."""
    made.data.close()
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", columns])
    graph = helper.make_graph(made.nodes, "model", [ids], [out], made.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "decoder.onnx"
    path.write_bytes(model.SerializeToString())
    return path, (folder / "decoder.onnx.data").stat().st_size


MODELS = {"decoder": write_decoder, "tied": write_tied, "bombs": write_bombs}


# -- measuring -----------------------------------------------------------------------------


def traced(arguments: list[str], record: Path) -> int:
    """Run graphopt's command line in this process, measured; return its exit code."""
    largest = {"SerializeToString": 0, "ParseFromString": 0}
    _watch_protobuf(largest)
    anonymous, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(anonymous, done), daemon=True)
    watcher.start()
    from graphopt.cli.main import main

    code = main(arguments)
    done.set()
    watcher.join()
    found = {
        "peak_rss_bytes": _status("VmHWM"),
        "peak_anonymous_bytes": anonymous[0],
        "largest_protobuf_bytes": max(largest.values()),
    }
    record.write_text(json.dumps(found))
    return code


def _watch_protobuf(largest: dict[str, int]) -> None:
    """Note the size of every message that is written or read."""
    for kind in (onnx.ModelProto, onnx.GraphProto, onnx.TensorProto, onnx.NodeProto):
        written, parsed = kind.SerializeToString, kind.ParseFromString

        def write(self: Any, *args: Any, _inner: Any = written, **given: Any) -> bytes:
            data = bytes(_inner(self, *args, **given))
            largest["SerializeToString"] = max(largest["SerializeToString"], len(data))
            return data

        def parse(self: Any, data: bytes, _inner: Any = parsed) -> Any:
            largest["ParseFromString"] = max(largest["ParseFromString"], len(data))
            return _inner(self, data)

        kind.SerializeToString, kind.ParseFromString = write, parse  # type: ignore[method-assign]


def _watch_memory(anonymous: list[int], done: threading.Event) -> None:
    while not done.wait(0.02):
        anonymous[0] = max(anonymous[0], _status("RssAnon"))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def command(name: str, model: Path, output: Path) -> list[str]:
    """Return the arguments of one command."""
    match name:
        case "compile":
            return ["--no-progress", name, str(model), "--recipe", "lossless", "-o", str(output)]
        case "diff":
            return [name, str(model), str(output)]
    return [name, str(model)]


def measured(name: str, model: Path, output: Path, folder: Path) -> dict[str, Any]:
    """Run a command in a process of its own; return exit code, seconds, memory, protobuf sizes."""
    record = folder / "record.json"
    record.unlink(missing_ok=True)
    words = [sys.executable, __file__, "--trace", str(record), *command(name, model, output)]
    environment = {**os.environ, "GRAPHOPT_CACHE": "", "PYTHONPATH": str(HERE.parent)}
    started, used = time.perf_counter(), _processor_seconds()
    child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate()
    (folder / f"{name}.txt").write_text(out)
    row: dict[str, Any] = {"exit": child.returncode}
    row["seconds"] = round(time.perf_counter() - started, 1)
    row["processor_seconds"] = round(_processor_seconds() - used, 1)
    usage = json.loads(record.read_text()) if record.exists() else {}
    return {**row, **usage}


def _processor_seconds() -> float:
    """Return the processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def difference(model: Path, output: Path) -> float:
    """Return max|difference| / max|reference| of the logits, one session after the other."""
    import onnxruntime as ort

    ids = np.arange(6, dtype=np.int64)[None] * (_MATRIX // 8)
    results = []
    for path in (model, output):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"ids": ids})[0])
        del session
    return float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max())


def bench(name: str, folder: Path, gigabytes: float) -> dict[str, Any]:
    """Write a model, run every command on it, compare the result with it."""
    model, weights = MODELS[name](folder, gigabytes)
    output = folder / "out.onnx"
    row: dict[str, Any] = {"weights_bytes": weights, "commands": {}}
    for each in COMMANDS:
        row["commands"][each] = measured(each, model, output, folder)
        print(name, each, json.dumps(row["commands"][each]), flush=True)
    report = json.loads(output.with_suffix(".json").read_text())
    row["changed"] = {p["name"]: p["notes"] for p in report["passes"] if p["status"] == "changed"}
    row["rolled_back"] = [p["name"] for p in report["passes"] if p["status"] == "rolled back"]
    row["nodes"] = [report["source"]["nodes"], report["result"]["nodes"]]
    row["written_bytes"] = sum(p.stat().st_size for p in folder.glob("out.onnx*"))
    row["relative_error"] = difference(model, output)
    row["faults"] = faults(row)
    return row


def faults(row: dict[str, Any]) -> list[str]:
    """Return what does not hold."""
    found = [] if row["relative_error"] <= TOLERANCE else ["outputs differ"]
    found += [f"{name} was rolled back" for name in row["rolled_back"]]
    for name, ran in row["commands"].items():
        if ran["exit"]:
            found.append(f"{name} failed")
        elif ran["peak_rss_bytes"] > PEAK_LIMIT:
            found.append(f"{name} took {ran['peak_rss_bytes'] / 1e9:.2f} GB")
        elif ran["largest_protobuf_bytes"] >= PROTOBUF_LIMIT:
            found.append(f"{name} built a protobuf of 2 GB")
    return found


def main() -> int:
    """Measure and write the results; return 1 when something does not hold."""
    if sys.argv[1:2] == ["--trace"]:
        return traced(sys.argv[3:], Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", choices=[[], *MODELS], metavar="MODEL")
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    rows = {}
    for name in given.models or MODELS:
        for folder in folders(given.keep / name if given.keep else None):
            rows[name] = bench(name, folder, given.gigabytes)
        print(name, json.dumps(rows[name]["faults"]))
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = {**found.get("models", {}), **rows}
    limits = {"peak_rss_bytes": PEAK_LIMIT, "protobuf_bytes": PROTOBUF_LIMIT, "error": TOLERANCE}
    text = json.dumps({"machine": describe(), "limits": limits, "models": rows}, indent=2)
    RESULTS.write_text(text + "\n")
    return int(any(row["faults"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
