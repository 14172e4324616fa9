"""The precisions that a search starts from: the whole model in each, nothing removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.setup import make_passes
from graphopt.errors import GraphOptError
from graphopt.pipeline import Runner
from graphopt.planner import is_open, open_section, settled_options
from graphopt.planner.joint import Candidate
from graphopt.recipe import PassEntry, parse_recipe
from graphopt.recipe.schema import kebab

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphopt.api.searching.ground import Ground
    from graphopt.ir import Graph
    from graphopt.recipe import Recipe
    from graphopt.registry import Registry
    from graphopt.report import Report

_FLOAT = {"insert-qdq": "placement=float", "quantize-matmuls": "mode=off"}
_PLACED = "placed by the clock"
_WEIGHT_ONLY = "weight-only"
_PRUNING = "prune-channels"
_BITS = (8, 4)
_MATTERS = 0.3
"""Share of the weights that products and embeddings must have to be worth fewer bits."""
_WITH_TABLES = ("MatMul", "Gemm", "Gather")


def plain_formats(recipe: Recipe, graph: Graph) -> list[Candidate]:
    """Return float, what the recipe makes by the estimate, and weights alone in fewer bits."""
    names = {entry.use for entry in recipe.passes}
    floats = tuple(f"{name}.{option}" for name, option in _FLOAT.items() if name in names)
    found = [Candidate("float", floats)]
    if floats:
        found.append(Candidate("int8"))
    if _share_of_products(graph) >= _MATTERS:
        found += [
            Candidate(f"weights in {bits} bits", (f"quantize-weights.bits={bits}",), _WEIGHT_ONLY)
            for bits in _BITS
        ]
    return found


def _share_of_products(graph: Graph) -> float:
    inputs = {v for node in graph.nodes(*_WITH_TABLES) for v in node.inputs if v is not None}
    tables = (v.tensor for v in inputs)
    total = ir.tensor_bytes(graph)
    return sum(int(t.nbytes) for t in tables if t is not None) / max(total, 1)


def assigned_formats(ground: Ground, most: int) -> list[Candidate]:
    """Return mixed precisions: the points of minimum cuts between speed and noise.

    Args:
        ground: what the search stands on; its calibration is run.
        most: how many, at most.
    """
    from graphopt.planner.assignment import propose_assignments

    recipe, context = ground.recipe, ground.context
    steps = make_passes(recipe, ground.registry)
    if not any(map(is_open, steps)):
        return []
    start, end = open_section(steps)
    made = ground.graph.copy()
    Runner(context, ground.verifier, recipe.limits).run(made, steps[:start])
    try:
        found = propose_assignments(made, steps[start:end], context, ground.verifier, most=most)
    except GraphOptError as error:
        context.log.debug("no precisions were assigned", exc_info=error)
        return []
    return [Candidate(each.label, each.overrides) for each in found]


def placed_format(report: Report, recipe: Recipe, registry: Registry) -> Candidate | None:
    """Return the format that a measured compile settled on; None where it stayed in float.

    Args:
        report: of that compile.
        recipe: that it started from.
        registry: passes.
    """
    settled = parse_recipe(report.recipe)
    opened = {step.name for step in make_passes(recipe, registry) if is_open(step)}
    told = [
        f"{entry.use}.{kebab(name)}={_toml(value)}"
        for entry in settled.passes
        if entry.use in opened
        for name, value in _settled(entry, registry).items()
    ]
    return Candidate(f"int8, {_PLACED}", tuple(told)) if told else None


def clocked(candidate: Candidate) -> Candidate:
    """Return a candidate with its passes chosen by timing."""
    return Candidate(f"{candidate.label}, {_PLACED}", candidate.overrides, candidate.recipe, True)


def as_pruned(candidate: Candidate, report: Report, registry: Registry) -> Candidate:
    """Return a candidate that removes just what its compile did, instead of what reaches a goal."""
    others = tuple(told for told in candidate.overrides if not told.startswith(f"{_PRUNING}."))
    told = [
        f"{entry.use}.{kebab(name)}={_toml(value)}"
        for entry in parse_recipe(report.recipe).passes
        if entry.use == _PRUNING
        for name, value in entry.options.items()
    ]
    return Candidate(candidate.label, (*others, *told), candidate.recipe)


def _settled(entry: PassEntry, registry: Registry) -> Mapping[str, Any]:
    step = registry.pass_class(entry.use)(**entry.options)
    return settled_options(step)


def _toml(value: Any) -> str:
    import tomlkit

    text: str = tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string()
    return text
