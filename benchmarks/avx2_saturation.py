"""What does an x86 CPU without VNNI make of int8 models, and are graphopt's safe there?

QEMU in user mode imitates a Haswell (AVX2, no VNNI); the onnxruntime that is installed here runs
under it, with the same Python. Two questions:

- Which pairs of weights saturate? Every pair of every small operator has weights of 127 and inputs
  of 255 in an output of its own; sums other than the exact one are saturated.
- Models compiled for x86-avx2 and, for comparison, for x86-avx512-vnni, with the recipe `integer`
  (by default kws stays float on AVX2), and quantize_static's (u8s8 per channel, in 8 bits and with
  reduce_range): outputs here and there, and each against fp32.

    python benchmarks/avx2_saturation.py [--samples N] [--qemu FILE] [MODEL...]

Without qemu-x86_64 (Debian: qemu-user 10; arm64_fusion.py unpacks it into its folder) nothing is
run and the exit status is 0; it is 1 when graphopt's outputs differ, or no peer's do. Nothing is
timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt import ir
from graphopt.errors import LimitError
from graphopt.pipeline import snr_db
from machine import describe
from peer_models import default_folder
from peers.samples import Reader
from workloads import Array, Feed, Workload, scores, workloads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "avx2_saturation.json"
PROCESSOR = "Haswell"
MODELS = ("kws_dscnn_bn", "cifar10_resnet20")
EXACT = 255 * 127 * 2
STEP = 400.0
"""Scale of the probes' outputs: the exact sum is 161.9 steps, the saturated one 81.9."""
SAME_DB = 50.0
"""Outputs that differ by less are equal within rounding: float heads and tails are in other
instructions there."""


@dataclass
class Probe:
    """A model with one output per pair of products.

    Args:
        name: what it shows.
        op: QLinearConv, QLinearMatMul or QGemm.
        weight: int8, outputs first.
        pairs: which two products, in channels-last order, each output adds.
        shape: of the input.
        attributes: of the operator.
    """

    name: str
    op: str
    weight: Array
    pairs: list[tuple[int, int]]
    shape: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def probes() -> list[Probe]:
    """Return the operators whose pairs are looked for."""
    found = [
        Probe("MatMul, K = 18, 1 row", "QLinearMatMul", *_matrix(18), (1, 18)),
        Probe("MatMul, K = 32, 8 rows", "QLinearMatMul", *_matrix(32), (8, 32)),
        Probe("Gemm, K = 19", "QGemm", *_matrix(19), (4, 19), {"transB": 1}),
        _convolution("Conv 3x3, 4 channels", 4, (3, 3)),
        _convolution("Conv 3x3, 3 channels", 3, (3, 3)),
        _convolution("Conv 3x3, 1 channel", 1, (3, 3)),
        _convolution("Conv 1x1, 18 channels", 18, (1, 1)),
        _convolution("Conv 3x3, 4 channels, dilated", 4, (3, 3), dilations=[2, 2]),
        _convolution("Conv of length 3, 4 channels", 4, (3,)),
    ]
    for multiplier in (1, 2):
        one = _convolution(f"depthwise 3x3, multiplier {multiplier}", 1, (3, 3))
        groups = len(one.weight) // multiplier
        one.shape, one.attributes["group"] = (1, groups, 9, 9), groups
        found.append(one)
    return found


def _matrix(products: int) -> tuple[Array, list[tuple[int, int]]]:
    pairs = list(itertools.combinations(range(products), 2))
    rows = np.zeros((-(-len(pairs) // 16) * 16, products), np.int8)
    for row, pair in zip(rows, pairs, strict=False):
        row[list(pair)] = 127
    return rows, pairs


def _convolution(name: str, channels: int, kernel: tuple[int, ...], **attributes: Any) -> Probe:
    rows, pairs = _matrix(channels * int(np.prod(kernel)))
    weight = np.moveaxis(rows.reshape(len(rows), *kernel, channels), -1, 1)
    shape = (1, channels, *(9 for _ in kernel))
    return Probe(name, "QLinearConv", weight, pairs, shape, attributes)


def probe_job(probe: Probe, home: Path) -> dict[str, str]:
    """Write the probe's model and its input of 255s; return the paths."""
    job = _paths(home)
    stored = np.ascontiguousarray(probe.weight.T if probe.op == "QLinearMatMul" else probe.weight)
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight": stored,
        "weight_zero": np.int8(0),
        "step": np.float32(STEP),
    }
    inputs = ["x", "one", "zero", "weight", "one", "weight_zero", "step", "zero"]
    if probe.op == "QGemm":
        inputs.insert(6, "")
    domain = "com.microsoft" if probe.op == "QGemm" else ""
    graph = helper.make_graph(
        [helper.make_node(probe.op, inputs, ["y"], domain=domain, **probe.attributes)],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, probe.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), job["model"])
    _write_feeds(job, [{"x": np.full(probe.shape, 255, np.uint8)}])
    return job


def probed(probe: Probe, job: dict[str, str]) -> dict[str, object]:
    """Return which pairs were saturated."""
    output = read_outputs(job)[0][0].astype(float)
    columns = output[0].reshape(output.shape[1], -1) if probe.op == "QLinearConv" else output.T
    wrong = np.abs(columns - EXACT / STEP).max(axis=1) > 1
    pairs = [pair for pair, bad in zip(probe.pairs, wrong, strict=False) if bad]
    products = probe.weight[0].size
    return {
        "operator": probe.name,
        "pairs": len(probe.pairs),
        "saturated": len(pairs),
        "even_neighbours": pairs == [(i, i + 1) for i in range(0, products - 1, 2)],
        "all_are_neighbours": all(b == a + 1 for a, b in pairs),
    }


@dataclass
class Case:
    """One quantized model with the samples that it is run on."""

    workload: Workload
    tool: str
    path: Path
    facts: dict[str, object] = field(default_factory=dict)


def compiled(workload: Workload, target: str, scratch: Path) -> Case:
    """Compile for ``target`` with all that can be integer in integer; no clock is used."""
    data = workload.write_calibration(scratch)
    try:
        done = graphopt.compile(
            workload.path,
            target=target,
            data=data,
            recipe="integer",
            overrides=("calibration.held-out=0", "limits.min-snr-db=-100"),
            measure=False,
        )
    except LimitError as error:
        done = cast("graphopt.Compiled", error.compiled)
    path = scratch / f"{workload.name}-{target}.onnx"
    ir.save(done.graph, path)
    operators = done.report.operators
    facts: dict[str, object] = {
        "heavy": len(operators),
        "integer": sum(o.execution == "integer" for o in operators),
    }
    for one in done.report.passes:
        names = ("outputs", "coarser_outputs", "coarsest")
        facts |= {k: v for k, v in one.metrics.items() if one.name == "insert-qdq" and k in names}
    return Case(workload, f"graphopt --target {target}", path, facts)


def peer(workload: Workload, scratch: Path, *, reduce_range: bool) -> Case:
    """Quantize with onnxruntime's own quantizer."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class OrtReader(Reader, CalibrationDataReader):  # type: ignore[misc]
        """Registered as onnxruntime wants it."""

    prepared = scratch / "prepared.onnx"
    quant_pre_process(str(workload.path), str(prepared))
    path = scratch / f"{workload.name}-peer-{reduce_range}.onnx"
    quantize_static(
        str(prepared),
        str(path),
        OrtReader(workload.write_calibration(scratch)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=reduce_range,
    )
    return Case(workload, "quantize_static" + " reduce_range" * reduce_range, path)


def compare(case: Case, here: dict[str, str], there: dict[str, str], plain: dict[str, str],
            samples: int) -> dict[str, object]:  # fmt: skip
    """Return how far the machines are apart, and each from the fp32 original."""
    native, emulated, original = (
        [outputs[0] for outputs in read_outputs(job)] for job in (here, there, plain)
    )
    apart = [float(np.abs(a - b).max()) for a, b in zip(native, emulated, strict=True)]
    row: dict[str, object] = {
        "model": case.workload.name,
        "tool": case.tool,
        "samples": len(native),
        "identical_samples": sum(d == 0 for d in apart),
        "largest_difference": max(apart),
        "largest_output": float(max(np.abs(a).max() for a in native)),
        "here_to_haswell_db": _decibel(native, emulated),
        "fp32_to_here_db": _decibel(original, native),
        "fp32_to_haswell_db": _decibel(original, emulated),
    } | case.facts
    labels = case.workload.labels()
    if labels is not None and case.workload.metric == "top1":
        for name, outputs in (("fp32", original), ("here", native), ("haswell", emulated)):
            found = scores(case.workload, outputs, labels[:samples])
            row[f"top1_{name}"] = round(100 * float(found.mean()), 1)
    return row


def _decibel(one: list[Array], other: list[Array]) -> float:
    return round(min(snr_db(one, other), 200.0), 1)


def _paths(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    names = {"model": "model.onnx", "feeds": "feeds.npz", "dump": "d.onnx", "outputs": "o.npz"}
    return {key: str(home / name) for key, name in names.items()}


def _write_feeds(job: dict[str, str], feeds: list[Feed]) -> None:
    arrays = {f"{i}/{k}": v for i, feed in enumerate(feeds) for k, v in feed.items()}
    np.savez(job["feeds"], **arrays)  # type: ignore[arg-type]


def read_outputs(job: dict[str, str]) -> list[list[Array]]:
    """Return the outputs by sample."""
    with np.load(job["outputs"]) as data:
        found: dict[int, list[Array]] = {}
        for key in data.files:
            found.setdefault(int(key.partition("/")[0]), []).append(data[key])
    return [found[i] for i in sorted(found)]


def run(jobs: list[dict[str, str]], scratch: Path, qemu: str | None) -> dict[str, str]:
    """Run the jobs in a Python of their own, here or under QEMU; return what it says of itself."""
    file = scratch / "jobs.json"
    file.write_text(json.dumps(jobs))
    site = str(Path(np.__file__).parents[1])
    command = [sys.executable, str(HERE / "arm64/guest.py"), site, str(file)]
    before = [qemu, "-cpu", PROCESSOR] if qemu else []
    done = subprocess.run([*before, *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[0]))


def find_qemu(given: Path | None) -> str | None:
    """Return the emulator that was given, on the path, or in arm64_fusion.py's folder."""
    kept = default_folder().with_name("graphopt-arm64") / "host/usr/bin/qemu-x86_64"
    for one in (given, kept):
        if one is not None and one.is_file():
            return str(one.resolve())
    return shutil.which("qemu-x86_64")


def measure_probes(scratch: Path, qemu: str) -> list[dict[str, object]]:
    """Return a row for each probe under emulation."""
    made = [(p, probe_job(p, scratch / f"probe{i}")) for i, p in enumerate(probes())]
    run([job for _, job in made], scratch, qemu)
    return [probed(probe, job) for probe, job in made]


def measure_models(
    names: list[str], samples: int, scratch: Path, qemu: str
) -> list[dict[str, object]]:
    """Return a row for each model and tool."""
    rows = []
    for workload in workloads(names):
        cases = [
            Case(workload, "fp32", workload.path),
            compiled(workload, "x86-avx2", scratch),
            compiled(workload, "x86-avx512-vnni", scratch),
            peer(workload, scratch, reduce_range=False),
            peer(workload, scratch, reduce_range=True),
        ]
        jobs: dict[str, list[dict[str, str]]] = {}
        feeds = workload.feeds()[:samples]
        for place in ("here", "there"):
            jobs[place] = [_paths(scratch / place / c.path.name) for c in cases]
            for job, case in zip(jobs[place], cases, strict=True):
                job["model"] = str(case.path)
                _write_feeds(job, feeds)
        run(jobs["here"], scratch, None)
        run(jobs["there"][1:], scratch, qemu)
        plain = jobs["here"][0]
        for case, here, there in list(zip(cases, jobs["here"], jobs["there"], strict=True))[1:]:
            rows.append(compare(case, here, there, plain, samples))
            print(rows[-1], flush=True)
    return rows


def summarise(rows: list[dict[str, object]], found: list[dict[str, object]]) -> dict[str, object]:
    """Return what the rows show together."""

    def apart(tool: str) -> list[float]:
        return [float(str(r["here_to_haswell_db"])) for r in rows if r["tool"] == tool]

    ours, theirs = apart("graphopt --target x86-avx2"), apart("quantize_static")
    return {
        "only_neighbours_saturate": all(row["all_are_neighbours"] for row in found),
        "graphopt_here_to_haswell_db": ours,
        "quantize_static_here_to_haswell_db": theirs,
        "holds": all(x >= SAME_DB for x in ours) and any(x < SAME_DB for x in theirs),
    }


def main() -> None:
    """Probe, compile, run, compare, write; exit 1 when what is claimed does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--qemu", type=Path, help="the file qemu-x86_64")
    options = parser.parse_args()
    qemu = find_qemu(options.qemu)
    if qemu is None:
        print("skipped: no qemu-x86_64 here (Debian: apt-get install qemu-user; or --qemu FILE)")
        return
    with tempfile.TemporaryDirectory() as name:
        found = measure_probes(Path(name), qemu)
        for row in found:
            print(row, flush=True)
        rows = measure_models(options.models, options.samples, Path(name), qemu)
    summary = summarise(rows, found)
    print(json.dumps(summary, indent=1))
    if options.models == list(MODELS):
        content = {"machine": describe(), "emulated": PROCESSOR, "summary": summary,
                   "probes": found, "rows": rows}  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if summary["holds"] else 1)


if __name__ == "__main__":
    main()
