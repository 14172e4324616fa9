"""Networks put through insert-qdq, and what onnxruntime executes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.pipeline import snr_db
from graphopt.runtime import Census, census, open_session
from graphopt.testing import context, graph, named_target, random_feeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph


@dataclass(frozen=True)
class Quantized:
    """A network after insert-qdq."""

    graph: Graph
    reasons: dict[str, str]
    census: Census
    snr_db: float

    @property
    def kernels(self) -> Counter[str]:
        """Executed kernels without domains and without copies between memory layouts."""
        found: Counter[str] = Counter()
        for name, count in self.census.kernels.items():
            found[name.rpartition(".")[2]] += count
        return Counter({k: n for k, n in found.items() if k not in {"Transpose", "ReorderOutput"}})

    @property
    def promised(self) -> dict[str, bool]:
        """Heavy operators by name: whether the graph has a DQ before them that is no protection."""
        return {
            node.name or node.outputs[0].name: _reads_integers(node)
            for node in self.graph.nodes("Conv", "Gemm", "MatMul")
        }

    @property
    def executed(self) -> dict[str, bool]:
        """Heavy operators by name: whether an integer kernel executes them."""
        return {e.node: e.integer for e in self.census.heavy if e.op != "ConvTranspose"}


def _reads_integers(node: ir.Node) -> bool:
    """Whether data and weight both come out of a DQ."""
    sources = [v.producer for v in node.inputs[:2] if v is not None]
    return all(s is not None and s.op == "DequantizeLinear" for s in sources)


@pytest.fixture(scope="session")
def quantize() -> Callable[..., Quantized]:
    """Return a function: ONNX text to the quantized network; ranges come from random data."""

    def run(text: str, target: str, opset: int = 17, **options: Any) -> Quantized:
        model = graph(text, opset=opset)
        feeds = random_feeds(model, count=4, seed=1)
        asked = context(target=target, data=feeds, model=model)
        made = model.copy()
        InsertQdq(**{"placement": "integer", "align": False, **options}).run(made, asked)
        ir.verify(made)
        reference = open_session(model)
        found = open_session(made, target=named_target(target))
        snr = snr_db(
            [array for feed in feeds for array in reference.run(feed)],
            [array for feed in feeds for array in found.run(feed)],
        )
        return Quantized(made, asked.reasons, census(made, named_target(target)), snr)

    return run
