"""Whether torch computes what onnxruntime computes: graphopt's operator table, and a converter.

The models of ../shared, the ``light`` topologies of the onnx package (weights drawn anew), the
shipped models, small transformers (random weights, exported by torch), and what graphopt compiles
some of them to in 8 and 4 bits are run with seeded inputs at two sizes by graphopt_torch.execution
and, where it is installed in the folder that --peer names, by onnx2torch. A model counts where
every output differs from onnxruntime's, without optimisation, by at most 1e-4 of its largest value;
models in 8 bits are compared with onnxruntime as it optimises them, in integers: the share of all
quantized numbers that are equal. The model in 4 bits multiplies in floats (accuracy level 1). Each
model runs in a process of its own. Writes benchmarks/results/torch_execution.json.

    python benchmarks/torch_execution.py [--folder PATH] [--peer PATH] [FAMILY or FAMILY/NAME …]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import graph_inputs
import machine
import pruning_models
from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session
from torchvision_models import default_folder
from workloads import SHARED, workloads

if TYPE_CHECKING:
    from graphopt.ir import Graph

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "torch_execution.json"
TOLERANCE = 1e-4
TIME_LIMIT = 900
IN_INTEGERS = {"session.qdqisint8allowed": "1"}
"""Lets onnxruntime use the integer kernels of Arm's models on this machine as well."""
QUANTIZED = ("cifar10_resnet20_jpegft", "imagenet_proxyless_w025_r112", "kws_dscnn_bn")
TARGETS = ("x86", "arm")
DECODER = "stories260k_decoder"
SHIPPED = ("digits_resnet", "waveform_transformer")


def keys() -> list[str]:
    """Return every model that is run, as FAMILY/NAME."""
    plain = [m.key for m in pruning_models.models() if m.family != "torchvision"]
    made = [f"int8/{name}@{target}" for name in QUANTIZED for target in TARGETS]
    return [*plain, *(f"shipped/{n}" for n in SHIPPED), *made, f"int4/{DECODER}"]


def read(key: str, folder: Path) -> Graph:
    """Return the graph of a model."""
    family, _, name = key.partition("/")
    if family == "shipped":
        return ir.load(ROOT / "models" / f"{name}.onnx")
    if family == "int4":
        graph = ir.load(SHARED / "models" / f"{name}.onnx")
        graph = compile_model(graph, recipe="weight-only", target="x86", measure=False).graph
        for node in graph.nodes("MatMulNBits"):
            node.set_attribute("accuracy_level", 1)
        return graph
    if family == "int8":
        stem, _, target = name.partition("@")
        (workload,) = workloads([stem])
        compiled = compile_model(
            workload.path,
            target=target,
            data=workload.calibration(),
            measure=False,
            recipe="integer",
        )
        return compiled.graph
    return pruning_models.Model(family, name).read(folder)


# -- one model -------------------------------------------------------------------------------


def own(graph: Graph, feed: dict[str, Any]) -> dict[str, Any]:
    """Return what graphopt's table computes."""
    sys.path.insert(0, str(ROOT / "plugins" / "graphopt-torch"))
    from graphopt_torch.execution import Program, to_torch

    program = Program.of(graph)
    names = [v.name for v in graph.outputs] + quantized(graph)
    found = program.run({n: to_torch(a) for n, a in feed.items() if n in program.inputs}, names)
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def peer(graph: Graph, feed: dict[str, Any]) -> dict[str, Any]:
    """Return what onnx2torch's module computes."""
    import onnx
    import torch

    # It needs torchvision for boxes only, whose compiled part goes with one build of torch.
    boxes = types.ModuleType("torchvision.ops")
    boxes.__dict__.update(dict.fromkeys(("nms", "batched_nms", "roi_align", "RoIAlign")))
    vision = types.ModuleType("torchvision")
    vision.__dict__["ops"] = boxes
    sys.modules.update({"torchvision": vision, "torchvision.ops": boxes})
    import onnx2torch

    module = onnx2torch.convert(onnx.load_model_from_string(ir.to_bytes(graph)))
    module.eval()
    with torch.no_grad():
        made = module(*[torch.from_numpy(feed[v.name].copy()) for v in graph.feeds])
    tensors = made if isinstance(made, list | tuple) else [made]
    return {v.name: t.numpy() for v, t in zip(graph.outputs, tensors, strict=True)}


def quantized(graph: Graph) -> list[str]:
    """Return the names of what QuantizeLinear makes."""
    made = [n.outputs[0] for n in graph.nodes("QuantizeLinear")]
    return [v.name for v in made if not v.is_output]


def judge(key: str, folder: Path, peers: bool) -> dict[str, Any]:
    """Return the score of every executor."""
    graph = read(key, folder)
    made = {"own": _judged(key, graph, own)}
    if peers:
        try:
            made["onnx2torch"] = _judged(key, graph, peer)
        except Exception as error:
            text = str(error).strip().splitlines() or [""]
            made["onnx2torch"] = {"fault": f"{type(error).__name__}: {text[0][:200]}"}
    return made


def _judged(key: str, graph: Graph, execute: Any) -> dict[str, Any]:
    """Return the worst error of a model's outputs, and of 8-bit models the share of equals."""
    in_integers = key.startswith("int8/")
    watched = graph.copy()
    inner = quantized(graph) if in_integers and execute is own else []
    watched.set_outputs([*watched.outputs, *(watched.value(n) for n in inner)])
    config = IN_INTEGERS if in_integers else None
    session = open_session(watched, optimize=in_integers, config=config)
    worst, equal, count = 0.0, 0, 0
    for feed in graph_inputs.feeds(session.inputs):
        wanted = dict(zip(session.outputs, session.run(feed), strict=True))
        found = execute(graph, feed)
        for value in graph.outputs:
            worst = max(worst, difference(wanted[value.name], found[value.name]))
        for name in inner:
            equal += int((wanted[name] == found[name]).sum())
            count += wanted[name].size
    made: dict[str, Any] = {"error": worst, "matches": worst <= TOLERANCE}
    if inner:
        made |= {"equal_integers": equal / count, "integers": count}
    return made


def difference(wanted: Any, found: Any) -> float:
    """Return the largest difference as a share of the largest value that is wanted."""
    if wanted.shape != found.shape:
        raise ValueError(f"shape {found.shape}, not {wanted.shape}")
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    most = float(np.abs(one).max(initial=0.0)) or 1.0
    return float(np.abs(one - other).max(initial=0.0)) / most


# -- all of them -----------------------------------------------------------------------------


def scored(key: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of a model, made in a process of its own; or why there are none."""
    command = [sys.executable, __file__, "--folder", str(options.folder), "--one", key]
    command += ["--peer", str(options.peer)] if options.peer else []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"own": {"fault": f"not done after {TIME_LIMIT} s"}}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return {"own": {"fault": said[-1][:200] if said else f"exit status {done.returncode}"}}


def told(score: dict[str, Any]) -> str:
    """Return a score in words."""
    if "fault" in score:
        return f"FAULT {score['fault'][:90]}"
    verdict = "matches" if score["matches"] else "DIFFERS"
    share = f"  {score['equal_integers']:.4%} equal" if "equal_integers" in score else ""
    return f"{verdict} {score['error']:.1e}{share}"


def summary(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return by family how many models each executor matches."""
    families = list(dict.fromkeys(key.partition("/")[0] for key in found))
    made: dict[str, dict[str, str]] = {}
    for family in families:
        scores = [v for k, v in found.items() if k.startswith(f"{family}/")]
        for who in ("own", "onnx2torch"):
            some = [s[who] for s in scores if who in s]
            passed = sum(s.get("matches", False) for s in some)
            if some:
                made.setdefault(who, {})[family] = f"{passed} of {len(some)}"
    return made


def write(found: dict[str, dict[str, Any]]) -> None:
    """Write the results."""
    ordered = {key: found[key] for key in keys() if key in found}
    record = {
        "machine": machine.describe(),
        "tolerance": TOLERANCE,
        "matches": summary(ordered),
        "models": ordered,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Run what the command line names, or show what one process finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="FAMILY or FAMILY/NAME")
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--peer", type=Path, help="where onnx2torch is installed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        sys.path.append(str(options.peer))
    if options.one:
        warnings.simplefilter("ignore")
        try:
            print(json.dumps(judge(options.one, options.folder, bool(options.peer))))
        except GraphOptError as error:
            sys.exit(f"{error.code}: {error.message}")
        return
    wanted = [p if "/" in p else f"{p}/*" for p in options.patterns] or ["*"]
    found = json.loads(RESULTS.read_text())["models"] if RESULTS.exists() else {}
    for key in [k for k in keys() if any(fnmatch.fnmatch(k, p) for p in wanted)]:
        score = found[key] = found.get(key, {}) | scored(key, options)
        print(f"{key:48}", "  |  ".join(f"{w} {told(s)}" for w, s in score.items()), flush=True)
        write(found)
    print(json.dumps(summary(found), indent=1))


if __name__ == "__main__":
    main()
