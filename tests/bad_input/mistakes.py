"""Models and data to make mistakes with, and what must hold for each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper as h

import graphopt
from graphopt.cli.main import main
from graphopt.errors import GraphOptError

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAGS = {"data": "--data", "target": "--target", "recipe": "--recipe"}


def model(*nodes: onnx.NodeProto, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """Return a model from `x`, float32 [N, 4], to `y`; one Relu unless nodes are given."""
    graph = h.make_graph(
        list(nodes) or [h.make_node("Relu", ["x"], ["y"], name="relu")],
        "g",
        [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])],
        [h.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])],
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir_version)


def write(content: onnx.ModelProto | bytes, name: str = "m.onnx") -> Path:
    path = Path(name)
    data = content if isinstance(content, bytes) else content.SerializeToString()
    path.write_bytes(data)
    return path


def samples(**arrays: Any) -> Path:
    """Write arrays, ten good samples of the model above unless others are given."""
    path = Path("data.npz")
    good = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    np.savez(path, **(arrays or {"x": good}))
    return path


def run(path: Path | str, feeds: Mapping[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def _snapshot() -> dict[str, tuple[Any, ...]]:
    """Return every file and link here, with what would show that it was touched."""
    found = {}
    for path in Path().rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (path.is_symlink(), path.lstat().st_mode, content)
    return found


@dataclass(frozen=True)
class Refusal:
    """What was printed."""

    code: str
    message: str
    where: str
    hint: str


class Bench:
    """Runs one command in a folder, and holds it to the rules for errors."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def refused(self, *args: object, exit_code: int = 2) -> Refusal:
        """Run a command that must fail: one error, a hint or a place, nothing touched or left."""
        before = _snapshot()
        code = main([str(a) for a in args])
        out, err = self._capfd.readouterr()
        assert (code, out) == (exit_code, ""), err
        assert _snapshot() == before
        assert "Traceback" not in err
        assert "internal error" not in err
        lines = [line for line in err.splitlines() if not _is_progress(line)]
        first = re.fullmatch(r"error\[(G\d{3})\]: (\S.*)", lines[0])
        assert first, err
        assert err.count("error[") == 1, err
        assert all(ord(c) >= 32 or c == "\n" for c in err), err
        places = [line[6:] for line in lines if line.startswith("  --> ")]
        hints = [line[6:] for line in lines if line.startswith("hint: ")]
        assert places or hints, err
        return Refusal(first[1], first[2], "".join(places), "".join(hints))

    def compile_refused(self, path: Path, code: str, **given: Any) -> Refusal:
        """Compile from the command line and from Python: both refuse with the same error."""
        options = [str(part) for key, value in given.items() for part in (FLAGS[key], value)]
        shown = self.refused("compile", path, *options)
        assert shown.code == code, shown
        assert shown.hint, shown
        before = _snapshot()
        with pytest.raises(GraphOptError) as raised:
            graphopt.compile(path, **given)
        assert (raised.value.code, raised.value.message) == (code, shown.message)
        assert _snapshot() == before
        return shown

    def compiles(self, path: Path, *args: object) -> Path:
        """Compile; return what was written, the input untouched."""
        before = _snapshot()
        code = main(["compile", str(path), "-o", "out.onnx", *[str(a) for a in args]])
        _, err = self._capfd.readouterr()
        assert code == 0, err
        after = _snapshot()
        assert {k: after[k] for k in before} == before
        assert {*after} - {*before} == {"out.onnx", "out.json"}
        return Path("out.onnx")


def _is_progress(line: str) -> bool:
    return bool(re.fullmatch(r"[a-z-]+: .* \(\d+\.\d s\)", line))
