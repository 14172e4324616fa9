"""What is accumulated of one branch: products of what a kernel sees and of what is to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.branches import Branch
from graphopt.passes.prune.reconstruct.moments import Moments, MomentSums, pick_rows
from graphopt.passes.prune.reconstruct.rows import MatrixProduct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.branches import Chain
    from graphopt.passes.prune.branches.placement import Placement
    from graphopt.passes.prune.reconstruct.walk import Batch

    Array = np.ndarray[Any, Any]
    Tensors = Mapping[str, Array]

_ROWS_PER_SAMPLE = 256


class BranchSums:
    """Moments of one chain over two halves of the samples.

    The outputs are what the chain has to make and, behind them, what branch and skip have to make
    together, where the skip is made of the entry by other operators.

    Args:
        chain: a branch or another chain.
        placement: how a linear operator reads its entry.
        kernel: the larger one of those that are tried.
        product: reads the rows of that kernel.
    """

    def __init__(
        self, chain: Chain, placement: Placement, kernel: int, product: MatrixProduct
    ) -> None:
        self.chain = chain
        self.placement = placement
        self.kernel = kernel
        self.product = product
        self.projects = isinstance(chain, Branch) and bool(chain.shortcut)
        self.problem = ""
        """Why nothing can be fitted, once that is known."""
        self.broadcasts = False
        """Whether the skip was found not to have the shape of the sum."""
        self._columns = placement.outputs * (2 if self.projects else 1)
        self._folds: tuple[MomentSums, ...] = ()
        self._turns: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """What the sums take."""
        features = self.product.features
        return 2 * features * (features + self._columns) * 8

    @property
    def read(self) -> list[str]:
        """Names of the tensors that tell what there is: the entry, and the skip."""
        return [self.chain.entry.name, *self._skip]

    @property
    def aims(self) -> list[str]:
        """Names of the tensors that tell what there should be: the exit, and the skip."""
        return [self.chain.exit.name, *self._skip]

    @property
    def _skip(self) -> list[str]:
        return [self.chain.skip.name] if isinstance(self.chain, Branch) else []

    def update(self, given: Batch, aims: Batch, seed: int) -> None:
        """Take in some samples: the tensors there are, and those there should be."""
        values, wanted = given.tensors, aims.tensors
        made = wanted[self.chain.exit.name]
        self.problem = self.problem or self._mismatch(values, wanted)
        if self.problem or not made.size:
            return
        count = made.size // self.placement.outputs
        picked = pick_rows(count, _ROWS_PER_SAMPLE, seed, given.samples)
        space = made.shape[2:] if self.placement.space is not None else ()
        rows = self.product.inputs(values[self.chain.entry.name], space, picked)
        goals = [self.product.outputs_at(g, picked) for g in self._goals(values, wanted)]
        if not self._folds:
            sizes = 1, self.product.features, self._columns
            self._folds = MomentSums(*sizes), MomentSums(*sizes)
        made_of = np.concatenate(goals, axis=1)
        # Copies of a sample have its number, and are in the same half.
        known = self._turns
        turns = np.array([known.setdefault(number, len(known)) for number in given.samples])
        for half, sums in enumerate(self._folds):
            inside = turns % 2 == half
            which = np.repeat(inside, len(picked) // len(turns))
            sums.update(rows[:, which], made_of[None, which], int(inside.sum()))

    def moments(self) -> list[Moments]:
        """Return the moments of each half of the samples that has any."""
        return [m for fold in self._folds if (m := fold.result()) is not None]

    def _goals(self, values: Tensors, wanted: Tensors) -> list[Array]:
        made = wanted[self.chain.exit.name]
        if not self._skip:
            return [made]
        skip = self._skip[0]
        whole = made + wanted[skip]
        # Where the skip is off, the branch makes up for it.
        goals = [made if values is wanted else whole - values[skip]]
        return [*goals, whole] if self.projects else goals

    def _mismatch(self, values: Tensors, wanted: Tensors) -> str:
        """Return why tensors do not fit together as their shapes promised; empty if they do."""
        read, made = values[self.chain.entry.name], wanted[self.chain.exit.name]
        for skip in self._skip:
            if not made.shape == wanted[skip].shape == values[skip].shape:
                self.broadcasts = True
                return "it has not the shape of the skip on every sample"
        if self.placement.space is None:
            fits = read.shape[:-1] == made.shape[:-1]
        else:
            fits = read.shape[0] == made.shape[0] and made.shape[2:] == self._space(read.shape[2:])
        return "" if fits else "no linear operator makes as many positions"

    def _space(self, sizes: Sequence[int]) -> tuple[int, ...]:
        axes = zip(sizes, self.placement.space or (), strict=True)
        return tuple((size + axis.slack) // axis.stride for size, axis in axes)


def product_of_kernel(placement: Placement, kernel: int) -> MatrixProduct | None:
    """Return an operator that reads rows as the fitted one will; its weights do not matter.

    None where a kernel of that size would have to crop its input.
    """
    graph = ir.Graph("rows")
    source = graph.new_value("x")
    if placement.space is None:
        weight = graph.add_constant("w", np.zeros((placement.inputs, 1), np.float32))
        node = graph.add_node("MatMul", [source, weight])
        return MatrixProduct(node, source, weight, node.outputs[0], None)
    pads = [pair for axis in placement.space if (pair := axis.padding(kernel)) is not None]
    if len(pads) < len(placement.space):
        return None
    shape = (1, placement.inputs, *[kernel] * len(pads))
    weight = graph.add_constant("w", np.zeros(shape, np.float32))
    attributes = {
        "strides": [axis.stride for axis in placement.space],
        "pads": [front for front, _ in pads] + [back for _, back in pads],
    }
    node = graph.add_node("Conv", [source, weight], attributes=attributes)
    return MatrixProduct(node, source, weight, node.outputs[0], None)
