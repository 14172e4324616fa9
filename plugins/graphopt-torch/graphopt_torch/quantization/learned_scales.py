"""The scales of a graph that are learned, with what their gradients have to be divided by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.quantization.pairs import affine, is_quantize
from graphopt_torch.quantization.scale_families import largest_scales
from graphopt_torch.quantization.scales import LearnedFamily, ScaleFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node
    from graphopt_torch.quantization.scale_families import ScaleFamilies
    from graphopt_torch.quantization.stored_integers import StoredIntegers

    Array = np.ndarray[Any, Any]

_LEARNABLE = (np.float32, np.float16)


def learned_families(
    graph: Graph, families: ScaleFamilies, stored: Mapping[str, StoredIntegers], device: str
) -> list[tuple[bool, LearnedFamily]]:
    """Return the families of scales that may change, and whether each is one of weights.

    Args:
        graph: its scales are learned.
        families: of its Q and DQ; scales of packed codes and the like are added.
        stored: its integer weights by name; scales of others stay.
        device: of the parameters.
    """
    facts = _activation_facts(graph)
    for weight in stored.values():
        own = ScaleFacts(graph.value(weight.scale).array(), weight.per_scale, max(1, weight.high))
        facts.setdefault(weight.scale, own)
    for name, limit in largest_scales(graph).items():
        if name in facts:
            facts[name] = replace(facts[name], limit=limit)
    found: list[tuple[bool, LearnedFamily]] = []
    known: set[str] = set()
    trained = {weight.scale for weight in stored.values()}
    for family in families.families():
        known.update(family.names)
        learnable = not family.fixed and not (family.weights and trained.isdisjoint(family.names))
        if learnable and any(name in facts for name in family.names):
            scales = {n: facts.get(n) or ScaleFacts(graph.value(n).array()) for n in family.names}
            if _is_learnable(scales):
                found.append((family.weights, LearnedFamily(scales, device)))
    alone = [{n: facts[n]} for n in dict.fromkeys(w.scale for w in stored.values())]
    alone = [one for one in alone if known.isdisjoint(one) and _is_learnable(one)]
    return [*found, *((True, LearnedFamily(one, device)) for one in alone)]


def _is_learnable(scales: Mapping[str, ScaleFacts]) -> bool:
    return all(f.array.dtype in _LEARNABLE and f.array.size for f in scales.values())


def _activation_facts(graph: Graph) -> dict[str, ScaleFacts]:
    """Return the scales that Q nodes have, with the features and integers that they scale."""
    sized = graph.copy()
    ir.infer_shapes(sized)
    found: dict[str, ScaleFacts] = {}
    for node in sized.nodes():
        facts = affine(node) if is_quantize(node) else None
        scale = node.inputs[1] if facts is not None else None
        if facts is None or scale is None or not scale.is_initializer:
            continue
        zero, (low, high) = int(facts.zero.reshape(-1)[0]), facts.limits
        largest = max(high - zero, zero - low)
        elements = max(1, _features(node) // max(1, facts.scale.size))
        own = ScaleFacts(facts.scale, elements, largest)
        known = found.setdefault(scale.name, own)
        if elements > known.elements:
            found[scale.name] = own
    return found


def _features(node: Node) -> int:
    """Return how many numbers of one sample a Q rounds; open dimensions count as one."""
    value = node.inputs[0]
    shape = value.shape if value is not None else None
    return math.prod(d for d in (shape or ())[1:] if isinstance(d, int) and d > 0)
