"""Recurrent layers: LSTM, GRU and RNN.

Weights are stored as ONNX lays them out: W [directions, gates * hidden, input], R [directions,
gates * hidden, hidden], B [directions, 2 * gates * hidden]; gates of LSTM in the order input,
output, forget, cell; of GRU update, reset, hidden. Steps are taken one after the other, so that
every variant (peepholes, coupled gates, clipping, other activations) has gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
Function = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]


def _affine(alpha: float, beta: float) -> Function:
    return lambda x: alpha * x + beta


_FUNCTIONS: dict[str, tuple[Callable[[float, float], Function], float, float]] = {
    "relu": (lambda _a, _b: torch.relu, 0, 0),
    "tanh": (lambda _a, _b: torch.tanh, 0, 0),
    "sigmoid": (lambda _a, _b: torch.sigmoid, 0, 0),
    "softsign": (lambda _a, _b: functional.softsign, 0, 0),
    "softplus": (lambda _a, _b: functional.softplus, 0, 0),
    "affine": (_affine, 1, 0),
    "leakyrelu": (lambda a, _b: lambda x: functional.leaky_relu(x, a), 0.01, 0),
    "thresholdedrelu": (lambda a, _b: lambda x: torch.where(x > a, x, 0), 1, 0),
    "scaledtanh": (lambda a, b: lambda x: a * torch.tanh(b * x), 1, 1),
    "hardsigmoid": (lambda a, b: lambda x: torch.clamp(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda a, _b: lambda x: functional.elu(x, a), 1, 0),
}
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _functions(node: Node, directions: int) -> list[list[Function]]:
    """Return the activations of each direction; parameters are dealt out to those that take any."""
    defaults = _DEFAULTS[node.op]
    names = node.attribute("activations") or defaults * directions
    alphas = list(node.attribute("activation_alpha") or [])
    betas = list(node.attribute("activation_beta") or [])
    made = []
    for name in names:
        build, alpha, beta = _FUNCTIONS[name.lower()]
        if alpha and alphas:
            alpha = alphas.pop(0)
        if beta and betas:
            beta = betas.pop(0)
        made.append(build(alpha, beta))
    each = len(defaults)
    return [made[i * each : (i + 1) * each] for i in range(directions)]


def _odd(node: Node, _version: int) -> str | None:
    names = node.attribute("activations") or []
    unknown = [n for n in names if n.lower() not in _FUNCTIONS]
    return f"has the activation {unknown[0]}" if unknown else None


@dataclass(frozen=True)
class _Cell:
    """What one direction of a layer computes at each step."""

    functions: list[Function]
    hidden: int
    clip: float
    coupled: bool
    reset_after: bool

    def clipped(self, x: Tensor) -> Tensor:
        return torch.clamp(x, -self.clip, self.clip) if self.clip else x


def _lstm_step(cell: _Cell, gates: Tensor, state: State, weights: _Weights) -> State:
    squash, candidate, out = cell.functions
    hidden, memory = state
    i, o, f, c = (gates + functional.linear(hidden, weights.r)).chunk(4, -1)
    if weights.peephole is not None:
        pi, po, pf = weights.peephole.chunk(3)
        i, f = i + pi * memory, f + pf * memory
    i = squash(cell.clipped(i))
    f = 1 - i if cell.coupled else squash(cell.clipped(f))
    memory = f * memory + i * candidate(cell.clipped(c))
    if weights.peephole is not None:
        o = o + po * memory
    return squash(cell.clipped(o)) * out(memory), memory


def _gru_step(cell: _Cell, gates: Tensor, state: State, weights: _Weights) -> State:
    squash, candidate = cell.functions
    (hidden,) = state
    size = cell.hidden
    rz, rr, rh = torch.split(weights.r, size)
    bz, br, bh = torch.split(weights.rb, size)
    z = squash(cell.clipped(gates[:, :size] + functional.linear(hidden, rz, bz)))
    r = squash(cell.clipped(gates[:, size : 2 * size] + functional.linear(hidden, rr, br)))
    if cell.reset_after:
        inner = r * functional.linear(hidden, rh, bh)
    else:
        inner = functional.linear(r * hidden, rh, bh)
    h = candidate(cell.clipped(gates[:, 2 * size :] + inner))
    return ((1 - z) * h + z * hidden,)


def _rnn_step(cell: _Cell, gates: Tensor, state: State, weights: _Weights) -> State:
    return (cell.functions[0](cell.clipped(gates + functional.linear(state[0], weights.r))),)


_STEP: dict[str, Any] = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}


@dataclass(frozen=True)
class _Weights:
    """Weights of one direction; the bias of the recurrence is apart for GRU."""

    w: Tensor
    r: Tensor
    wb: Tensor
    rb: Tensor
    peephole: Tensor | None


def _weights(op: str, w: Tensor, r: Tensor, b: Tensor | None, peephole: Tensor | None) -> _Weights:
    size = _GATES[op] * r.shape[-1]
    both = w.new_zeros(2 * size) if b is None else b
    wb, rb = both[:size], both[size:]
    return _Weights(w, r, wb if op == "GRU" else wb + rb, rb, peephole)


@operator("LSTM", "GRU", "RNN", since=7, refuse=_odd)
def _layer(node: Node, _version: int) -> Kernel:
    way = node.attribute("direction", "forward")
    directions = 2 if way == "bidirectional" else 1
    functions = _functions(node, directions)
    batch_first = bool(node.attribute("layout", 0))
    op, clip = node.op, node.attribute("clip", 0.0)
    coupled = bool(node.attribute("input_forget", 0))
    reset_after = bool(node.attribute("linear_before_reset", 0))

    def kernel(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h0: Tensor | None = None,
        c0: Tensor | None = None,
        p: Tensor | None = None,
    ) -> Any:
        starts = [h0, c0] if op == "LSTM" else [h0]
        if batch_first:
            x = x.transpose(0, 1)
            starts = [None if t is None else t.transpose(0, 1) for t in starts]
        made = []
        for d in range(directions):
            cell = _Cell(functions[d], r.shape[-1], clip, coupled, reset_after)
            weights = _weights(
                op, w[d], r[d], None if b is None else b[d], None if p is None else p[d]
            )
            zero = x.new_zeros(x.shape[1], r.shape[-1])
            state = tuple(zero if t is None else t[d] for t in starts)
            backwards = way == "reverse" or d == 1
            made.append(_walk(op, cell, x, weights, state, lengths, backwards))
        return _joined(made, batch_first)

    return kernel


def _walk(
    op: str,
    cell: _Cell,
    x: Tensor,
    weights: _Weights,
    state: State,
    lengths: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, State]:
    """Return the hidden states of all steps [T, B, H], and the last state."""
    gates = functional.linear(x, weights.w, weights.wb)
    step, count = _STEP[op], x.shape[0]
    found: list[Tensor] = [x] * count
    for t in reversed(range(count)) if backwards else range(count):
        after: State = step(cell, gates[t], state, weights)
        if lengths is not None:
            alive = (t < lengths).unsqueeze(-1)
            found[t] = torch.where(alive, after[0], 0)
            after = tuple(torch.where(alive, a, s) for a, s in zip(after, state, strict=True))
        else:
            found[t] = after[0]
        state = after
    return torch.stack(found), state


def _joined(made: list[tuple[Tensor, State]], batch_first: bool) -> tuple[Tensor, ...]:
    """Return Y [T, directions, B, H] and the last states [directions, B, H]; or batch first."""
    every = torch.stack([y for y, _ in made], 1)
    last = [torch.stack(parts) for parts in zip(*(s for _, s in made), strict=True)]
    if batch_first:
        return every.permute(2, 0, 1, 3), *(t.transpose(0, 1) for t in last)
    return every, *last
