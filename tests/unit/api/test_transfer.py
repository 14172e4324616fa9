"""`graphopt profile --from measurements.csv`: what a table may say, and what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.api.transfer import read_table, transfer_profile
from graphopt.errors import ModelError, TargetError
from graphopt.targets import builtin_targets
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

BASE = next(t for t in builtin_targets() if t.name == "arm64-neon")


def write_models(folder: Path, count: int) -> None:
    for index in range(count):
        width = 8 * (index + 1)
        text = f"""
        g (float[1,{width},16,16] x) => (float[1,{width},16,16] y)
        <float[{width},{width},3,3] w> {{ a = Conv<pads=[1,1,1,1]>(x, w) y = Relu(a) }}
        """
        ir.save(graph(text), folder / f"m{index}.onnx")


def test_models_are_beside_the_table(tmp_path: Path) -> None:
    write_models(tmp_path, 4)
    table = tmp_path / "board.csv"
    table.write_text("model, ms, threads\n" + "".join(f"m{i}.onnx,{i + 1}.5,4\n" for i in range(4)))
    made = transfer_profile(table, BASE)
    assert made.device == "board"
    assert made.base == "arm64-neon"
    assert made.threads == 4
    assert len(made.digest) == 64
    assert made == transfer_profile(table, BASE)


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        ("", "no column `model`", ":1"),
        ("model,time\na,1\n", "no column `ms`", ":1"),
        ("model,ms,speed\na,1,2\n", "unknown column `speed`", ":1"),
        ("model,ms\na,fast\n", "`fast` is not a time", ":2"),
        ("model,ms\na,-1\n", "`-1` is not a time", ":2"),
        ("model,ms\na,nan\n", "`nan` is not a time", ":2"),
        ("model,ms\na,1\n,2\n", "one field per column", ":3"),
        ("model,ms\na,1,2\n", "one field per column", ":2"),
        ("model,ms,threads\na,1,0\n", "`0` is not a number of threads", ":2"),
        ("model,ms\na,1\nb,2\n", "2 different models", ""),
        ("model,ms\na,1\na,2\na,3\n", "1 different models", ""),
        ("model,ms,threads\na,1,1\nb,2,1\nc,3,4\n", "4 threads here, 1 before", ":4"),
    ],
)
def test_faults_of_the_table(tmp_path: Path, content: str, message: str, line: str) -> None:
    file = tmp_path / "t.csv"
    with pytest.raises(TargetError, match=message) as caught:
        read_table(content.encode(), file)
    assert caught.value.code == "G506"
    assert caught.value.where == f"{file}{line}"
    assert caught.value.hint


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="UTF-8"):
        read_table(b"\xff\xfe\x00", tmp_path / "t.csv")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read"):
        transfer_profile(tmp_path / "none.csv", BASE)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("model,ms\na.onnx,1\nb.onnx,2\nc.onnx,3\n")
    with pytest.raises(ModelError, match=r"a\.onnx"):
        transfer_profile(table, BASE)
