"""What a unit is worth: by how much its going would change what the model says, to first order.

For a loss L, removing a unit changes L by about - sum(w dL/dw) over the weights that a sum applies
to it, which is - dL/dg for a gate g = 1 in front of them. Its square, averaged over samples, is the
criterion of Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 8,
with one gate for each unit (section 3.2). There L needs labels. Here labels are drawn from what the
model itself says, which makes half of that mean the divergence, to second order, that removing the
unit alone leads to: the mean square of such a gradient is the Fisher information, and that is the
curvature of the divergence. A loss against a teacher would say nothing before training, because it
is at its minimum there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from graphopt.analysis.divergence import OutputKind, kind_of
from graphopt.passes.prune.outputs import counted_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from graphopt_torch.execution import Program
    from graphopt_torch.pruning.gates import Gates

    Array = np.ndarray[Any, Any]
    Tensors = Mapping[str, torch.Tensor]

_SMALLEST = 1e-12


def unit_scores(
    program: Program,
    gates: Gates,
    batches: Iterable[Tensors],
    values: Tensors,
    seed: int,
) -> dict[str, Array]:
    """Return the mean over samples of (dL/dg)^2 / 2 for each unit, by group; float64 [units].

    Gates that are closed keep a score: what their unit would be worth if it came back.

    Args:
        program: runs the graph that the gates are of.
        gates: as they stand; left so.
        batches: inputs by name.
        values: in place of constants.
        seed: of the labels that are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    standing = dict(gates.values)
    totals = {name: torch.zeros(gate.shape[-1]) for name, gate in standing.items()}
    samples = 0
    fixed = {name: tensor.detach() for name, tensor in values.items()}
    try:
        for feeds in batches:
            count = _samples(feeds)
            for name, gradient in _gradients(program, gates, standing, feeds, fixed, generator):
                totals[name] += gradient.square().sum(dim=0)
            samples += count
    finally:
        gates.values = standing
    scale = 0.5 / max(samples, 1)
    return {name: total.double().numpy() * scale for name, total in totals.items()}


def _samples(feeds: Tensors) -> int:
    return max((len(tensor) for tensor in feeds.values() if tensor.dim()), default=1)


def _gradients(
    program: Program,
    gates: Gates,
    standing: Tensors,
    feeds: Tensors,
    values: Tensors,
    generator: torch.Generator,
) -> list[tuple[str, torch.Tensor]]:
    """Return dL/dg of each group, [samples, units]; [1, units] where samples cannot be told."""
    for count in (_samples(feeds), 1):
        gates.values = {
            name: gate.detach().expand(count, -1).clone().requires_grad_()
            for name, gate in standing.items()
        }
        if count == 1:
            gates.values = {n: g.detach()[0].requires_grad_() for n, g in gates.values.items()}
        try:
            found = program.run(feeds, values=values, taps=gates.taps)
        except ValueError:
            if count == 1:
                raise
            continue
        break
    loss = drawn_loss(found, generator)
    leaves = list(gates.values.values())
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    pairs = zip(gates.values, gradients, strict=True)
    return [(n, g.cpu().reshape(-1, g.shape[-1])) for n, g in pairs if g is not None]


def drawn_loss(found: Tensors, generator: torch.Generator) -> torch.Tensor:
    """Return a loss whose gradients have the curvature of the divergence as their mean square.

    For class scores: - log p(y) with y drawn from p; over a sequence, sums of random signs, so that
    positions do not mix. For signals: the product with noise of the inverse power. Summed over
    samples, which do not meet.

    Args:
        found: outputs by name, the first axis of which consists of samples.
        generator: draws.
    """
    kinds = {n: kind_of([t.detach().cpu().numpy()]) for n, t in found.items()}
    losses = [_drawn(found[n], kind, generator) for n, kind in counted_outputs(kinds).items()]
    return torch.stack(losses).sum()


def _drawn(output: torch.Tensor, kind: OutputKind, generator: torch.Generator) -> torch.Tensor:
    if kind is OutputKind.SIGNAL:
        power = float(output.detach().square().mean()) + _SMALLEST
        each = output[0].numel() if output.dim() else 1
        noise = torch.randn(output.shape, generator=generator).to(output.device)
        return (output * noise).sum() / math.sqrt(each * power)
    if kind is OutputKind.LOGITS:
        logs = torch.log_softmax(output, dim=-1)
    else:
        logs = output.clamp_min(_SMALLEST).log()
    rows = logs.reshape(-1, logs.shape[-1])
    drawn = torch.multinomial(rows.detach().exp().cpu(), 1, generator=generator)
    taken = rows.gather(1, drawn.to(rows.device))[:, 0]
    positions = len(taken) // len(output)
    if positions == 1:
        return -taken.sum()
    signs = torch.randint(0, 2, taken.shape, generator=generator).to(rows.device) * 2 - 1
    return -(taken * signs).sum() / math.sqrt(positions)
