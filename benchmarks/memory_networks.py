"""What networks keep in memory, for the planner: steps, sizes, inputs and outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.analysis import Step
from graphopt.cost.planning import Execution
from ncnn_graphs import read_layers

if TYPE_CHECKING:
    from pathlib import Path

_VIEWS = frozenset({"Split", "Reshape", "Flatten", "Noop", "Dropout"})
_IN_PLACE = frozenset(
    {"ReLU", "BatchNorm", "Scale", "BinaryOp", "Eltwise", "Swish", "HardSwish", "HardSigmoid",
     "Sigmoid", "Softmax", "GELU", "Clip", "PReLU"}
)  # fmt: skip


def ncnn_execution(path: Path) -> Execution:
    """Return a ncnn definition in float32: every layer is a step, Split and reshapes are views."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[2:]]
    sizes: dict[str, int] = {}
    steps: list[Step] = []
    inputs: list[str] = []
    constants: set[str] = set()
    for words, layer in zip(lines, read_layers(path), strict=True):
        first, second = 4, 4 + int(words[2])
        reads = tuple(dict.fromkeys(n for n in words[first:second] if n not in constants))
        writes = tuple(words[second : second + int(words[3])])
        sizes.update((n, 4 * math.prod(s)) for n, s in zip(writes, layer.outputs, strict=True))
        if layer.op == "MemoryData":
            constants.update(writes)
        elif layer.op == "Input":
            inputs.extend(writes)
        else:
            steps.append(_step(layer.op, words[1], reads, writes, sizes))
    used = {name for step in steps for name in step.reads}
    outputs = tuple(n for step in steps for n in step.writes if n not in used)
    alive = {n: s for n, s in sizes.items() if n not in constants}
    return Execution(tuple(steps), alive, tuple(inputs), outputs)


def _step(
    op: str, name: str, reads: tuple[str, ...], writes: tuple[str, ...], sizes: dict[str, int]
) -> Step:
    views = tuple((w, reads[0]) for w in writes) if op in _VIEWS and reads else ()
    over = tuple((writes[0], r) for r in reads if sizes[r] == sizes[writes[0]])
    return Step(f"{op} {name}", reads, writes, views, over if op in _IN_PLACE else ())
