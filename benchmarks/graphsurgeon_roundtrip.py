"""What onnx-graphsurgeon keeps of a model, what it costs, and what graphopt.ir does instead.

``python benchmarks/graphsurgeon_roundtrip.py`` prints JSON; docs/decisions/0001 quotes it. Every
model that the installed onnx ships under backend/test/data, and every model of ../shared/data where
it is there, goes in and out of both without a change; what differs afterwards is counted by kind.
"""

from __future__ import annotations

import collections
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import Message
from onnx import TensorProto, helper

from graphopt import ir

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
RoundTrip = Callable[[onnx.ModelProto], onnx.ModelProto]
CHAIN = 20_000
REMOVED = 1_000
LARGE_MIB = 512


def main() -> None:
    """Measure everything and print it."""
    results = {
        "versions": {p: version(p) for p in ("onnx", "onnx-graphsurgeon", "numpy")},
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "models": round_trips(),
        "written models": written_models(),
        "equality": equality(),
        "seconds": {
            f"{CHAIN} nodes in, sorted, out": chain_seconds(),
            f"{REMOVED} of {CHAIN} nodes removed": removal_seconds(),
            "import": import_seconds(),
        },
        "peak memory, MiB": external_memory(),
    }
    print(json.dumps(results, indent=2))


def through_graphsurgeon(model: onnx.ModelProto) -> onnx.ModelProto:
    """Import and export without a change."""
    return gs.export_onnx(gs.import_onnx(model), do_type_check=False)


def through_graphopt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Load and save without a change."""
    return onnx.load_from_string(ir.to_bytes(ir.from_bytes(model.SerializeToString())))


# -- what is lost --------------------------------------------------------------------------


def model_files() -> Iterator[Path]:
    """Yield the models of the installed onnx package, and the shared ones."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    yield from sorted(folder.rglob("model.onnx"))
    yield from sorted((folder / "light").glob("*.onnx"))
    if SHARED.is_dir():
        yield from sorted(SHARED.glob("*.onnx"))


def round_trips() -> dict[str, Any]:
    """Return per library how many models come back equal, legal, and with each kind of loss."""
    models = [onnx.load(path) for path in model_files()]
    legal = [is_legal(model) for model in models]
    found: dict[str, Any] = {"files": len(models)}
    trips: dict[str, RoundTrip] = {
        "graphsurgeon": through_graphsurgeon,
        "graphopt.ir": through_graphopt,
    }
    for name, trip in trips.items():
        kinds: collections.Counter[str] = collections.Counter()
        for model, was_legal in zip(models, legal, strict=True):
            kinds.update(set(losses(model, trip)) or {"equal"})
            if was_legal and not is_legal(trip(model)):
                kinds["onnx.checker passed before and fails after"] += 1
        found[name] = dict(kinds.most_common())
    return found


def is_legal(model: onnx.ModelProto) -> bool:
    """Return what onnx.checker says."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def losses(model: onnx.ModelProto, trip: RoundTrip) -> list[str]:
    """Return what is missing or other after a round trip, by field of the protobuf."""
    try:
        after = trip(model)
    except Exception as error:
        return [f"raises {type(error).__name__}"]
    # How a tensor is encoded, empty texts and the order of sets are not content.
    return sorted(differences(canonical(model), canonical(after)))


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with tensors as raw bytes, no empty texts, and unordered fields in order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for proto in _messages(copy):
        for field, value in proto.ListFields():
            if value == "":
                proto.ClearField(field.name)
        if isinstance(proto, TensorProto) and proto.data_type != TensorProto.STRING:
            values = onnx.numpy_helper.to_array(proto)
            plain = onnx.numpy_helper.from_array(values, proto.name)
            if plain.data_type == proto.data_type:
                for field in ("raw_data", *_VALUES):
                    proto.ClearField(field)
                proto.raw_data = plain.raw_data
        if isinstance(proto, onnx.NodeProto):
            _in_order(proto.attribute, lambda a: a.name)
        if isinstance(proto, onnx.GraphProto):
            _in_order(proto.value_info, lambda v: v.name)
            _in_order(proto.initializer, lambda t: t.name)
    _in_order(copy.opset_import, lambda o: o.domain)
    return copy


_VALUES = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _in_order(field: Any, key: Callable[[Any], str]) -> None:
    items = sorted(field, key=key)
    copies = [type(item)() for item in items]
    for copied, item in zip(copies, items, strict=True):
        copied.CopyFrom(item)
    del field[:]
    field.extend(copies)


def _messages(proto: Message) -> Iterator[Message]:
    yield proto
    for field, value in proto.ListFields():
        if field.message_type is not None:
            for inner in value if _repeated(value) else [value]:
                yield from _messages(inner)


def _repeated(value: Any) -> bool:
    return not isinstance(value, Message)


def differences(before: Message, after: Message, inside: str = "model") -> set[str]:
    """Return "message.field" of every field that differs, at its deepest place."""
    if before == after:
        return set()
    found: set[str] = set()
    for field in before.DESCRIPTOR.fields:
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        place = f"{type(before).__name__.removesuffix('Proto').lower()}.{field.name}"
        if field.message_type is None:
            found.add(place)
        elif not _repeated(old):
            found |= differences(old, new, place) or {place}
        elif len(old) != len(new):
            found.add(f"{place} ({'fewer' if len(new) < len(old) else 'more'})")
        else:
            for one, other in zip(old, new, strict=True):
                found |= differences(one, other, place)
    return found


# -- models written for one question each --------------------------------------------------


def written_models() -> dict[str, dict[str, str]]:
    """Return what becomes of facts that few of the files above hold."""
    found = {
        name: {
            "graphsurgeon": ", ".join(losses(model, through_graphsurgeon)) or "kept",
            "graphopt.ir": ", ".join(losses(model, through_graphopt)) or "kept",
        }
        for name, model in _questions().items()
    }
    read = "int4 initializer whose values were read"
    found[read] = {"graphsurgeon": ", ".join(losses(_with_int4(), _reading)) or "kept"}
    return found


def _reading(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = gs.import_onnx(model)
    _ = [t.values for t in graph.tensors().values() if isinstance(t, gs.Constant)]
    return gs.export_onnx(graph, do_type_check=False)


def _questions() -> dict[str, onnx.ModelProto]:
    found: dict[str, onnx.ModelProto] = {}
    for name in ("model metadata", "node metadata", "node doc string", "quantization annotation"):
        found[name] = _relu()
    helper.set_model_props(found["model metadata"], {"author": "somebody"})
    found["node metadata"].graph.node[0].metadata_props.add(key="origin", value="layer 1")
    found["node doc string"].graph.node[0].doc_string = "the only one"
    note = found["quantization annotation"].graph.quantization_annotation.add(tensor_name="x")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    found["int4 initializer"] = _with_int4()
    return found


def _relu() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) {[n] y = Relu(x)}'
    )


def _with_int4() -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.INT4, [3], [1, -2, 7])
    nodes = [helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(
        nodes,
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


# -- identity ------------------------------------------------------------------------------


_BRANCHES = """<ir_version: 10, opset_import: ["": 21]>
g (bool c, float[2] x) => (float[2] y) {
    y = If (c) <
        then_branch = a () => (float[2] p) { t = Relu(x)  p = Neg(t) },
        else_branch = b () => (float[2] q) { t = Exp(x)  q = Neg(t) }
    >
}"""


def equality() -> dict[str, bool]:
    """Return what the libraries hold to be the same thing."""
    model = onnx.parser.parse_model(_BRANCHES)
    one, two = gs.import_onnx(model).nodes[0].attrs.values()
    first, second = (branch.nodes()[0] for branch in ir.parse(_BRANCHES).nodes()[0].subgraphs)
    x = gs.Variable("x")
    twins = [gs.Node("Relu", inputs=[x]), gs.Node("Relu", inputs=[x])]
    wanted = twins[1]
    twins.remove(wanted)
    return {
        "graphsurgeon: `t` of one branch == `t` of the other": (
            one.nodes[0].outputs[0] == two.nodes[0].outputs[0]
        ),
        "graphsurgeon: of two new nodes, remove(second) removed the first": twins[0] is wanted,
        "graphsurgeon: a node can be a key of a dict": gs.Node.__hash__ is not None,
        "graphopt.ir: `t` of one branch == `t` of the other": (
            first.outputs[0] == second.outputs[0]
        ),
        "graphopt.ir: a node can be a key of a dict": ir.Node.__hash__ is not None,
    }


# -- time ----------------------------------------------------------------------------------


def chain_seconds() -> dict[str, float | str]:
    """Return the seconds that a chain of 20,000 nodes takes: in, sorted, out."""
    model = _chain(CHAIN)
    data = model.SerializeToString()

    def surgeon() -> None:
        gs.export_onnx(gs.import_onnx(onnx.load_from_string(data)).toposort())

    def graphopt() -> None:
        graph = ir.from_bytes(data)
        graph.sort()
        ir.to_bytes(graph)

    return {"graphsurgeon": _seconds(surgeon), "graphopt.ir": _seconds(graphopt)}


def removal_seconds() -> dict[str, float | str]:
    """Return the seconds that removing the last nodes of the chain takes, last first."""
    model = _chain(CHAIN)
    surgeon, graph = gs.import_onnx(model), ir.from_bytes(model.SerializeToString())

    def from_surgeon() -> None:
        for node in surgeon.nodes[: -REMOVED - 1 : -1]:
            surgeon.nodes.remove(node)

    def from_graphopt() -> None:
        graph.set_outputs([graph.nodes()[-REMOVED - 1].outputs[0]])
        for node in graph.nodes()[: -REMOVED - 1 : -1]:
            graph.remove(node)

    return {"graphsurgeon": _seconds(from_surgeon), "graphopt.ir": _seconds(from_graphopt)}


def _chain(length: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [2]) for i in (0, length)]
    return helper.make_model(helper.make_graph(nodes, "chain", ends[:1], ends[1:]))


def _seconds(work: Callable[[], None]) -> float | str:
    started = time.perf_counter()
    try:
        work()
    except RecursionError:
        return "RecursionError"
    return round(time.perf_counter() - started, 4)


def import_seconds() -> dict[str, float]:
    """Return how much longer a fresh process takes with the import; best of five."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    empty = best("pass")
    codes = {"onnx": "import onnx", "onnx_graphsurgeon": "import onnx_graphsurgeon"}
    return {name: round(best(code) - empty, 3) for name, code in codes.items()}


# -- memory --------------------------------------------------------------------------------

_LOAD = {
    "graphsurgeon": """
import onnx, onnx_graphsurgeon as gs
graph = gs.import_onnx(onnx.load(source))
onnx.save_model(gs.export_onnx(graph), target, save_as_external_data=True, location="t.data")
""",
    "graphopt.ir": """
from graphopt import ir
ir.save(ir.load(source), target, external=True)
""",
    "nothing (imports only)": "import onnx, onnx_graphsurgeon; from graphopt import ir",
}


# getrusage would tell the peak of the parent process, which exec inherits.
_PEAK = 'print(next(s.split()[1] for s in open("/proc/self/status") if s.startswith("VmHWM")))'


def external_memory() -> dict[str, Any]:
    """Return the peak resident memory of loading and saving external data unchanged."""
    found: dict[str, Any] = {"external data": LARGE_MIB}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.onnx"
        _write_large(source)
        for name, code in _LOAD.items():
            target = Path(folder) / f"out_{len(found)}.onnx"
            script = f"source, target = {str(source)!r}, {str(target)!r}\n{code}\n{_PEAK}"
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            found[name] = int(done.stdout) // 1024
    return found


def _write_large(path: Path) -> None:
    rows = LARGE_MIB * 256 // 8
    weights = [
        onnx.numpy_helper.from_array(np.ones((rows, 1024), np.float32), f"w{i}") for i in range(8)
    ]
    nodes = [helper.make_node("Gather", [f"w{i}", "ids"], [f"y{i}"]) for i in range(len(weights))]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["N", 1024]) for i in range(8)],
        weights,
    )
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]),
        path,
        save_as_external_data=True,
        location="large.data",
    )


if __name__ == "__main__":
    main()
