"""onnxruntime sessions on graphs, with its failures told in our words."""

from __future__ import annotations

import functools
import importlib
import re
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import GraphOptError, ModelError
from graphopt.ir import (
    Graph,
    newest_opset,
    referring_bytes,
    save,
    tensor_bytes,
    to_bytes,
)
from graphopt.runtime.affordable import demand_affordable, inflates_inside
from graphopt.runtime.bounded import MOST_SECONDS, RunStoppedError, may_be_endless, run_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]

_CPU = "CPUExecutionProvider"
_IN_MEMORY_LIMIT = 16 << 20
"""Models with more constants than this go to onnxruntime through a file, not through a copy."""
_IN_DUMP_LIMIT = 2_000_000_000
"""The same where the runtime writes the graph: it would name a file that is gone by then."""
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""Session entry: where the runtime looks for the data of a model that it gets as bytes."""


class Session:
    """An open model: typed, quiet, one thread unless told otherwise.

    Args:
        native: onnxruntime's session.
        folder: must outlive it.
        threads: that it was opened for.
        seconds: after which a run is stopped; None: never.
    """

    seconds: float | None = None

    def __init__(
        self,
        native: Any,
        folder: tempfile.TemporaryDirectory[str] | None,
        threads: int,
        seconds: float | None = None,
    ) -> None:
        self.native = native
        self.threads = threads
        self.seconds = seconds
        if folder is not None:
            weakref.finalize(self, folder.cleanup)
        self.inputs: tuple[tuple[str, tuple[int | str | None, ...], str], ...] = tuple(
            (i.name, tuple(i.shape), numpy_name(i.type)) for i in native.get_inputs()
        )
        self.outputs: tuple[str, ...] = tuple(o.name for o in native.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Any]:
        """Run once; returns the named outputs, or all of them.

        Raises:
            ModelError: G215, the runtime rejected the feeds or failed inside; RunStoppedError, the
                model has a loop that did not end.
        """
        names = list(outputs) if outputs else None
        try:
            if self.seconds is not None:
                return run_bounded(self.native, feeds, names, self.seconds)
            return list(self.native.run(names, dict(feeds)))
        except RunStoppedError:
            raise
        except Exception as error:
            raise ModelError(
                f"onnxruntime could not run the model: {_first_line(error)}",
                code="G215",
                hint="check shapes and values of the inputs against `graphopt inspect`",
            ) from error


def open_session(
    model: Graph | bytes | Path,
    *,
    target: Target | None = None,
    optimize: bool = True,
    threads: int = 1,
    dump: Path | None = None,
    profile: Path | None = None,
    config: Mapping[str, str] | None = None,
    fold: bool = True,
) -> Session:
    """Open a model in onnxruntime: on the target's provider where it is installed, or on the CPU.

    Args:
        model: a graph, a serialized model, or a file.
        target: fuse as this target would; the host's own rules when None.
        optimize: all graph optimisations, or none.
        threads: intra-operator threads; they never spin, so that sessions can be compared.
        dump: write the graph as the runtime will execute it to this file; the CPU provider's, since
            others compile it into what cannot be written.
        profile: let the runtime's profiler write to a file whose name begins so.
        config: further session entries.
        fold: let the runtime compute constants when it opens the model, however large they are.

    Raises:
        ModelError: G206 opset too new, G207 operator without kernel, G209 a tensor larger than
            this machine's memory, G215 anything else.
    """
    import onnxruntime as ort

    seconds = None
    if isinstance(model, Graph):
        demand_affordable(model)
        seconds = MOST_SECONDS if may_be_endless(model) else None
        # What a branch would make that is never taken must not be made while opening.
        fold = fold and not inflates_inside(model)
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    entries = {"session.intra_op.allow_spinning": "0", **(config or {})}
    if target is not None:
        entries |= target.session_config
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if dump is not None:
        options.optimized_model_filepath = str(dump)
    payload, folder, found = _payload(model, dump)
    for key, value in found.items():
        options.add_session_config_entry(key, value)
    try:
        chosen = _providers(target if dump is None else None, threads)
        left_out = None if fold else ["ConstantFolding"]
        native = ort.InferenceSession(
            payload, options, providers=chosen, disabled_optimizers=left_out
        )
    except Exception as error:
        raise explain_failure(error) from error
    return Session(native, folder, threads, seconds)


def _providers(target: Target | None, threads: int) -> list[str | tuple[str, dict[str, str]]]:
    """Return the execution providers to open a session with, the preferred one first."""
    if target is None or target.provider in {"", _CPU}:
        return [_CPU]
    import onnxruntime as ort

    if target.provider not in ort.get_available_providers():
        return [_CPU]
    options = {k: v.format(threads=threads) for k, v in target.provider_options.items()}
    return [(target.provider, options), _CPU]


def _payload(
    model: Graph | bytes | Path, dump: Path | None
) -> tuple[bytes | str, tempfile.TemporaryDirectory[str] | None, dict[str, str]]:
    """Return what the runtime reads, a folder that must outlive it, and session entries.

    Constants that lie in files are mapped from there, except where the runtime writes the graph to
    another folder (``dump``): it would write where they lie instead of what they hold.
    """
    if isinstance(model, bytes):
        return model, None, {}
    if isinstance(model, Path):
        return str(model), None, {}
    referring = referring_bytes(model)
    if referring is not None and dump is not None and dump.parent.resolve() != referring[1]:
        referring = None
    if referring is not None:
        return referring[0], None, {_DATA_FOLDER: str(referring[1])}
    if tensor_bytes(model) < (_IN_MEMORY_LIMIT if dump is None else _IN_DUMP_LIMIT):
        return to_bytes(model), None, {}
    folder = tempfile.TemporaryDirectory(prefix="graphopt-")
    path = Path(folder.name) / "model.onnx"
    save(model, path, external=True)
    return str(path), folder, {}


def _first_line(error: Exception) -> str:
    """Return what onnxruntime says, without its own source files and signatures."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ", "", lines[0])
    text = re.sub(r"\S*onnxruntime\S*\.(?:cc|h):\d+ .*?[)>] (?=[A-Z])", "", text)
    return text.strip()[:300]


_NEWEST_OPSET = r"official support for domain ai\.onnx is till opset (?P<newest>\d+)"
_TOO_NEW = (
    r"model (?P<what>IR version: \d+), max supported IR version: (?P<newest>\d+)",
    rf"(?P<what>[Oo]pset \d+) is under development(?:.*{_NEWEST_OPSET})?",
)
_UNREGISTERED = (
    r"error: (?:(?P<domain>[\w.]*):)?(?P<op>\w+)\S* is not a registered function/op",
    r"\(\"(?P<node>[^\"]*)\", (?P<op>\w+), .* Error No (?:Op registered|opset import) for",
    r"Could not find an implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'",
)
"""The ways in which onnxruntime says that it does not have an operator."""


def explain_failure(error: Exception) -> GraphOptError:
    """Translate what onnxruntime says when it refuses a model."""
    text = str(error)
    new = next(filter(None, (re.search(p, text) for p in _TOO_NEW)), None)
    if new:
        limit = f" (it runs up to {new['newest']})" if new["newest"] else ""
        return ModelError(
            f"the model's {new['what'].replace(':', '')} is newer than this onnxruntime{limit}",
            code="G206",
            hint="update onnxruntime, or export the model for an older opset",
        )
    found = next(filter(None, (re.search(p, text) for p in _UNREGISTERED)), None)
    if found:
        named = found.groupdict()
        operator = ".".join(filter(None, (named.get("domain"), named["op"])))
        return ModelError(
            f"onnxruntime has no implementation of the operator `{operator}`",
            code="G207",
            where=f"node `{named['node']}`" if named.get("node") else None,
            hint="custom operators need their library; graphopt cannot check what it cannot run",
        )
    return ModelError(
        f"onnxruntime cannot open the model: {_first_line(error)}",
        code="G215",
        hint="the model does not run as it is: repair it, or export it again",
    )


@functools.cache
def _numpy_names() -> dict[str, str]:
    return {
        "float": "float32",
        "double": "float64",
        "float16": "float16",
        "bfloat16": "bfloat16",
        "string": "object",
        "bool": "bool",
    } | {f"{u}int{b}": f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)}


def numpy_name(kind: str) -> str:
    """Translate ``tensor(float)`` to ``float32``; empty for sequences and maps."""
    found = re.fullmatch(r"tensor\((\w+)\)", kind)
    return _numpy_names().get(found.group(1), found.group(1)) if found else ""


@functools.cache
def newest_supported_opset() -> int:
    """Return the newest default operator set that the installed onnxruntime takes.

    There is no function for it: the answer is in what is said about a set that nobody has.
    """
    import onnxruntime as ort

    graph = Graph("probe")
    graph.opsets = {"": 1 << 30}
    graph.set_outputs(graph.add_node("Constant", [], attributes={"value_int": 0}).outputs)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(to_bytes(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        found = re.search(_NEWEST_OPSET, str(error))
        if found:
            return int(found.group(1))
    return newest_opset()


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("onnxruntime", "onnx", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # onnxruntime under another name: -openvino, -gpu, ...
            found[name] = str(importlib.import_module(name).__version__)
    return found
