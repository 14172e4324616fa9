"""Store equal constants once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.analysis import levels
from graphopt.ir import SparseTensor
from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class MergeEqualConstants:
    """Let the readers of equal constants (type, shape and bytes) read one of them.

    Bytes are compared by their hash, and only where another constant has the same type and shape;
    data outside the model file is streamed, never loaded whole. A model in which each layer owns
    its weights can be pruned and quantized more freely than one that shares them, so recipes that
    do either merge large constants only: an embedding that is stored twice.

    Args:
        min_bytes: smaller constants stay as they are.
    """

    name: ClassVar[str] = "merge-equal-constants"
    effect: ClassVar[Effect] = Effect.EXACT
    min_bytes: int = 0

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Keep the first of each set; every graph, inner ones too, by itself."""
        merged = [v for level in levels(graph) for v in self._merge(level)]
        if not merged:
            return PassResult(False)
        saved = sum(merged)
        note = f"{counted(len(merged), 'equal constant', 'merged')}, {saved} bytes"
        return PassResult(True, (note,), {"constants": len(merged), "bytes": saved})

    def _merge(self, graph: Graph) -> list[int]:
        """Return the bytes of each constant that is gone."""
        alike: defaultdict[object, list[Value]] = defaultdict(list)
        for value in graph.initializers:
            tensor = value.tensor
            if tensor is None or isinstance(tensor, SparseTensor):
                continue
            fixed = value.is_output or value.is_input
            if value.uses and not fixed and tensor.nbytes >= self.min_bytes:
                alike[tensor.dtype, tensor.shape].append(value)
        gone = []
        for group in alike.values():
            first: dict[str, Value] = {}
            for value in group if len(group) > 1 else ():
                assert value.tensor is not None
                kept = first.setdefault(value.tensor.digest(), value)
                if kept is not value:
                    gone.append(value.tensor.nbytes)
                    graph.replace_uses(value, kept)
                    graph.drop_constant(value)
        return gone
