"""Attention and rotary position embeddings, as one operator each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt.types import DType
from graphopt_torch.execution.element_types import HELD
from graphopt_torch.execution.registry import MICROSOFT, operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def heads_of(rows: Tensor, count: int) -> Tensor:
    """Return [B, heads, T, d] of rows [B, T, heads * d]."""
    return rows.reshape(rows.shape[0], rows.shape[1], count, -1).transpose(1, 2)


@dataclass(frozen=True)
class _Setting:
    """Attributes of Attention; windows are -1 where they are open."""

    causal: bool
    scale: float | None
    softcap: float
    precision: torch.dtype | None
    left: int
    right: int
    shown: int

    @classmethod
    def of(cls, node: Node) -> _Setting:
        precision = node.attribute("softmax_precision", 0)
        return cls(
            bool(node.attribute("is_causal", 0)),
            node.attribute("scale"),
            node.attribute("softcap", 0.0),
            HELD[DType(precision)] if precision else None,
            node.attribute("left_window_size", -1),
            node.attribute("right_window_size", -1),
            node.attribute("qk_matmul_output_mode", 0),
        )

    def bias(self, mask: Tensor | None, q: Tensor, keys: int, past: int, valid: Any) -> Any:
        """Return what is added to the scores, or None; minus infinity where nothing is seen."""
        made = None if mask is None else _additive(mask, keys, q.dtype)
        seen = self._seen(q, keys, past, valid)
        if seen is not None:
            hidden = torch.zeros(seen.shape, dtype=q.dtype, device=q.device)
            hidden = hidden.masked_fill(~seen, float("-inf"))
            made = hidden if made is None else made + hidden
        return made

    def _seen(self, q: Tensor, keys: int, past: int, valid: Tensor | None) -> Tensor | None:
        """Return which keys each query may see by its place: [T, S] or [B, 1, T, S]."""
        across = torch.arange(keys, device=q.device)
        along = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + past
        if valid is not None and not past:
            along = along + (valid.reshape(-1, 1, 1, 1) - q.shape[2])
        rules = []
        if self.causal:
            rules.append(across <= along)
        if self.left >= 0:
            rules.append(along - across <= self.left)
        if self.right >= 0:
            rules.append(across - along <= self.right)
        if valid is not None:
            rules.append(across < valid.reshape(-1, 1, 1, 1))
        if not rules:
            return None
        seen = rules[0]
        for rule in rules[1:]:
            seen = seen & rule
        return seen


def _additive(mask: Tensor, keys: int, kind: torch.dtype) -> Tensor:
    short = keys - mask.shape[-1]
    if mask.dtype is torch.bool:
        zeros = torch.zeros(mask.shape, dtype=kind, device=mask.device)
        mask = zeros.masked_fill(~mask, float("-inf"))
    return functional.pad(mask, [0, short], value=float("-inf")) if short > 0 else mask


def _closed_rows(bias: Tensor | None) -> Tensor | None:
    """Return the queries that see no key at all, or None where there are none."""
    if bias is None:
        return None
    closed = torch.isneginf(bias.amax(-1, keepdim=True))
    return closed if bool(closed.any()) else None


def _attend(
    setting: _Setting, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, show: bool
) -> tuple[Tensor, Tensor | None]:
    """Return softmax(scale q k' + bias) v, and the scores at the stage that is to be shown."""
    scale = setting.scale if setting.scale is not None else 1 / math.sqrt(q.shape[-1])
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    root = math.sqrt(scale)
    scores = torch.matmul(q * root, (k * root).transpose(-1, -2))
    shown = scores
    if setting.softcap > 0:
        scores = torch.tanh(scores / setting.softcap) * setting.softcap
        shown = scores if setting.shown == 1 else shown
    if bias is not None:
        scores = scores + bias
    shown = scores if setting.shown == 2 else shown
    closed = _closed_rows(bias)
    if closed is not None:
        scores = torch.where(closed, 0, scores)
    weights = torch.softmax(scores, -1, dtype=setting.precision).to(q.dtype)
    if closed is not None:
        weights = torch.where(closed, 0, weights)
    shown = weights if setting.shown == 3 else shown
    return torch.matmul(weights, v), shown if show else None


@operator("Attention", since=23)
def _attention(node: Node, _version: int) -> Kernel:
    setting = _Setting.of(node)
    of_q, of_k = node.attribute("q_num_heads"), node.attribute("kv_num_heads")
    show = len(node.outputs) > 3 and bool(node.outputs[3].name)

    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Any:
        rows = q.dim() == 3
        if rows:
            q, k, v = heads_of(q, of_q), heads_of(k, of_k), heads_of(v, of_k)
        past = 0 if past_k is None else past_k.shape[2]
        k = k if past_k is None else torch.cat([past_k, k], 2)
        v = v if past_v is None else torch.cat([past_v, v], 2)
        bias = setting.bias(mask, q, k.shape[2], past, valid)
        made, shown = _attend(setting, q, k, v, bias, show)
        if rows:
            made = made.transpose(1, 2).flatten(2)
        return made, k, v, shown

    return kernel


# -- rotation by position --------------------------------------------------------------------


def rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, width: int) -> Tensor:
    """Return heads [B, H, T, d] with pairs of their first ``width`` features rotated.

    Args:
        x: the heads.
        cos: [B or 1, T, width / 2].
        sin: the same.
        interleaved: pairs are neighbours, not equal places of the two halves.
        width: features that are rotated; 0 for all.
    """
    width = width or x.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        made = torch.stack([cos * a - sin * b, sin * a + cos * b], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        made = torch.cat([cos * a - sin * b, sin * a + cos * b], -1)
    return made if not rest.shape[-1] else torch.cat([made, rest], -1)


@operator("RotaryEmbedding", since=23)
def _rotary(node: Node, _version: int) -> Kernel:
    interleaved = bool(node.attribute("interleaved", 0))
    width, heads = node.attribute("rotary_embedding_dim", 0), node.attribute("num_heads", 0)

    def kernel(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
        if places is not None:
            cos, sin = cos[places.to(torch.int64)], sin[places.to(torch.int64)]
        if x.dim() == 4:
            return rotated(x, cos, sin, interleaved, width)
        made = rotated(heads_of(x, heads), cos, sin, interleaved, width)
        return made.transpose(1, 2).flatten(2)

    return kernel


@operator("RotaryEmbedding", domain=MICROSOFT)
def _rotary_of_runtime(node: Node, _version: int) -> Kernel:
    interleaved = bool(node.attribute("interleaved", 0))
    width, heads = node.attribute("rotary_embedding_dim", 0), node.attribute("num_heads", 0)

    def kernel(x: Tensor, places: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        length = x.shape[-2]
        if places.numel() == 1 and places.dim() == 1:
            places = places.reshape(1, 1) + torch.arange(length, device=x.device)
        cos, sin = cos[places], sin[places]
        if x.dim() == 4:
            return rotated(x, cos, sin, interleaved, width)
        count = heads or x.shape[-1] // (2 * cos.shape[-1])
        made = rotated(heads_of(x, count), cos, sin, interleaved, width)
        return made.transpose(1, 2).flatten(2)

    return kernel
