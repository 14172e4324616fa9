"""What doctor says of the models that other quantizers make: four toy networks, every setting.

Each tool runs in an interpreter of its own: ``--nncf PYTHON``, ``--inc PYTHON``; onnxruntime's own
tools run in this one. A tool that fails is a result too. Writes benchmarks/results/doctor.json,
where no tool was left out.

    python benchmarks/doctor_cases.py --nncf VENV/bin/python --inc VENV/bin/python
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graphopt.api.diagnosis import Diagnosis, doctor
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session, race, versions
from toy_networks import NETWORKS, samples

RESULTS = Path(__file__).parent / "results" / "doctor.json"

STATIC: dict[str, dict[str, Any]] = {
    "ort static, defaults": {},
    "ort static, u8 and s8 per channel": {"unsigned": True, "per_channel": True},
    "ort static, one node excluded": {"per_channel": True, "exclude": True},
    "ort static, MatMul without Q behind": {"unsigned": True, "matmul_only": True},
}

NNCF = """
import sys, numpy as np, onnx, nncf
model, data, out = sys.argv[1:4]
feeds = [{"x": x} for x in np.load(data)["x"]]
options = {"preset": nncf.QuantizationPreset.MIXED} if "mixed" in sys.argv else {}
if "transformer" in sys.argv:
    options["model_type"] = nncf.ModelType.TRANSFORMER
onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(feeds), subset_size=8, **options), out)
"""

INC = """
import sys, numpy as np, onnx
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import config, quantize, QuantFormat
model, data, out = sys.argv[1:4]
class Feeds(data_reader.CalibrationDataReader):
    def __init__(self): self.rewind()
    def rewind(self): self.it = iter([{"x": x} for x in np.load(data)["x"]])
    def get_next(self): return next(self.it, None)
options = {"quant_format": QuantFormat.QDQ, "per_channel": True} if "qdq" in sys.argv else {}
quantize(model, out, config.StaticQuantConfig(Feeds(), **options))
onnx.save(onnx.load(out), out)
"""


class Feeds:
    """Calibration data in onnxruntime's protocol."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.feeds = iter(samples(model))

    def get_next(self) -> Any:
        """Return the next sample; None after the last."""
        return next(self.feeds, None)


def static(
    source: Path,
    target: Path,
    *,
    unsigned: bool = False,
    per_channel: bool = False,
    exclude: bool = False,
    matmul_only: bool = False,
) -> None:
    """Quantize with onnxruntime's static tool."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(Feeds, CalibrationDataReader):  # type: ignore[misc]
        pass

    model = onnx.load(source)
    options: dict[str, Any] = {"per_channel": per_channel}
    if unsigned:
        options["activation_type"] = QuantType.QUInt8
    if exclude:
        heavy = [n.name for n in model.graph.node if n.op_type in {"Conv", "MatMul"}]
        options["nodes_to_exclude"] = [heavy[len(heavy) // 2]]
    if matmul_only:
        options["op_types_to_quantize"] = ["MatMul"]
        options["extra_options"] = {"OpTypesToExcludeOutputQuantization": ["MatMul"]}
    quantize_static(model, target, Reader(model), **options)


def foreign(python: str, script: str, source: Path, target: Path, *words: str) -> None:
    """Run a tool in its own interpreter; raises with the last line of what it says."""
    data = source.with_suffix(".npz")
    np.savez(data, x=np.stack([f["x"] for f in samples(onnx.load(source))]))
    command = [python, "-c", script, str(source), str(data), str(target), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode or not target.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(lines[-1][:200])


def tools(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what to run, by name."""
    from onnxruntime.quantization import quantize_dynamic

    found: dict[str, Any] = {
        name: lambda s, t, _n, o=options: static(s, t, **o) for name, options in STATIC.items()
    }
    found["ort dynamic"] = lambda s, t, _n: quantize_dynamic(s, t)
    if arguments.nncf:
        python = arguments.nncf
        found["nncf, defaults"] = lambda s, t, _n: foreign(python, NNCF, s, t)
        found["nncf, mixed"] = lambda s, t, n: foreign(python, NNCF, s, t, "mixed", n)
    if arguments.inc:
        found["inc, defaults"] = lambda s, t, _n: foreign(arguments.inc, INC, s, t)
        found["inc, qdq"] = lambda s, t, _n: foreign(arguments.inc, INC, s, t, "qdq")
    return found


def facts(found: Diagnosis, float_ms: float, quantized_ms: float | None) -> dict[str, Any]:
    """Return one row of the results."""
    repaired = found.repaired
    timed = repaired.measured if repaired is not None else None
    return {
        "integer": sum(o.execution == "integer" for o in found.operators),
        "heavy": len(found.operators),
        "converters": found.converters,
        "failure": found.failure,
        "speed_of_float": round(float_ms / quantized_ms, 3) if quantized_ms else None,
        "findings": dict(sorted(Counter(f.code for f in found.findings).items())),
        "fixable": sum(f.fixable for f in found.findings),
        "unexplained": [f.node for f in found.findings if f.code == "D130"],
        "estimated_cost_ms": round(sum(f.cost_ms or 0.0 for f in found.findings), 5),
        "repairs": repaired.repairs if repaired is not None else {},
        "integer_after": repaired.integer if repaired is not None else None,
        "snr_db": round(repaired.snr_db, 1)
        if repaired is not None and repaired.snr_db is not None and np.isfinite(repaired.snr_db)
        else None,
        "speed_after": round(timed.ratio, 3) if timed is not None else None,
    }


def examine(source: Path, target: Path) -> dict[str, Any]:
    """Diagnose one quantized model and time it against its float original."""
    found = doctor(target)
    float_ms, quantized_ms = 1.0, None
    if found.failure is None:
        sessions = {"float": open_session(source), "quantized": open_session(target)}
        result = race(sessions, samples(onnx.load(source), 2), seconds=0.5)
        quantized_ms = 1.0 / result.speedup("quantized", "float")
    return facts(found, float_ms, quantized_ms)


def main() -> None:
    """Run every tool on every network and print what doctor says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nncf", help="python with nncf")
    parser.add_argument("--inc", help="python with onnx-neural-compressor")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows: dict[str, dict[str, Any]] = {}
    for network, make in NETWORKS.items():
        for tool, quantize in tools(arguments).items():
            with tempfile.TemporaryDirectory() as folder:
                source, target = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
                onnx.save(make(), source)
                try:
                    quantize(source, target, network)
                    row = examine(source, target)
                except GraphOptError as error:
                    row = {"illegal": error.message}
                except Exception as error:  # whatever a tool raises is its result
                    row = {"tool_failed": f"{type(error).__name__}: {error}"[:300]}
            rows[f"{network}: {tool}"] = row
            print(f"{network}: {tool}\n  {json.dumps(row)}", flush=True)
    if arguments.nncf and arguments.inc:
        RESULTS.write_text(json.dumps({"versions": versions(), "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
