"""Where quantization loses accuracy, operator by operator, and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.budget import quantizing_section
from graphopt.api.recovery import without_training
from graphopt.api.setup import (
    SEED,
    find_target,
    make_context,
    make_passes,
    open_samples,
    resolve_recipe,
)
from graphopt.api.source import input_specs, naming, read_model
from graphopt.calibration.dataset import take
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError, ModelError
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.pipeline import Runner, Verifier, probe_feeds
from graphopt.pipeline.sensitivity import Sensitivity
from graphopt.planner.plan import Plan
from graphopt.registry import Registry
from graphopt.report import QuantizationAnalysis
from graphopt.runtime import HEAVY, INTEGER_KERNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from graphopt.api.source import ModelSource
    from graphopt.calibration.base import Dataset
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.recipe import Recipe
    from graphopt.report import Notice, Observe
    from graphopt.targets.base import Target

SAMPLES = 32
"""Samples that noise is measured on, unless more are asked for."""


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A float model and the same model quantized, and what was said on the way."""

    reference: Graph
    quantized: Graph
    dataset: Dataset
    reasons: dict[str, str]
    notices: tuple[Notice, ...] = ()


def analyze(
    model: ModelSource,
    *,
    data: Source | None,
    target: str | None = None,
    reference: ModelSource | None = None,
    recipe: Recipe | Path | str | None = None,
    overrides: Sequence[str] = (),
    samples: int = SAMPLES,
    registry: Registry | None = None,
    observe: Observe | None = None,
) -> QuantizationAnalysis:
    """Measure how much noise the quantization of each operator makes, in one pass over the data.

    A float model is quantized as ``compile`` would, except that every operator becomes integer that
    can: what the compile would leave in float for speed is judged as well.

    Args:
        model: a float model; or, with ``reference``, one that is quantized already.
        data: samples, as for ``compile``.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        reference: the float original of a quantized model; tensors are matched by name.
        recipe: preset name, file, or a recipe.
        overrides: "pass.option=value", strongest of all.
        samples: how many samples noise is measured on, at most.
        registry: passes, targets and so on; built-ins and installed plugins when None.
        observe: is told about progress.

    Raises:
        DataError: G211 to G214; G213 also where no data is given.
        ModelError: G217, there is nothing to compare; G201 to G209, G215.
    """
    registry = registry or Registry()
    graph, name = read_model(model)
    resolved = resolve_recipe(
        target=target, data=data, recipe=recipe, overrides=overrides, registry=registry
    ).recipe
    if data is None and resolved.calibration.data is None:
        raise DataError(
            "no data was given: noise is measured on samples",
            code="G213",
            hint="give some typical inputs with --data; they need no labels",
        )
    found = find_target(resolved.target, registry)
    if reference is None:
        with naming(name, graph):
            pair = _quantized(graph, name, data, resolved, found, registry, observe)
        original = name
    else:
        other, original = read_model(reference)
        pair = _matched(graph, other, data, resolved, registry)
    return _measured(pair, name, original, found, samples, observe)


def _measured(
    pair: _Pair, name: str, original: str, target: Target, samples: int, observe: Observe | None
) -> QuantizationAnalysis:
    chosen = take(pair.dataset, samples)
    found = Sensitivity(pair.reference, pair.quantized, saturates=target.quantization.saturates)
    if not found.layers:
        raise ModelError(
            "no operator of the quantized model could be matched with the float model",
            code="G217",
            where=name,
            hint="names of tensors must agree, and integers be written as Q and DQ; was the model "
            "quantized from this original?",
        )
    found.measure(chosen, _teller(observe, len(chosen)))
    matched = {layer.name for layer in found.layers}
    floats = [n.label for n in pair.reference.nodes(*HEAVY)]
    return QuantizationAnalysis(
        model=name,
        reference=original,
        target=target.name,
        data=chosen.origin,
        samples=found.samples,
        layers=found.results(),
        outputs=found.outputs(),
        floats={n: pair.reasons.get(n, "") for n in floats if n not in matched},
        notices=pair.notices,
    )


def _teller(observe: Observe | None, total: int) -> Callable[[int], None] | None:
    if observe is None:
        return None
    return lambda done: observe.progress("measuring", done, total)


def _quantized(
    graph: Graph,
    name: str,
    data: Source | None,
    recipe: Recipe,
    target: Target,
    registry: Registry,
    observe: Observe | None,
) -> _Pair:
    """Run the recipe, with everything in integers that can be."""
    if any(n.op in INTEGER_KERNELS or n.op == "DequantizeLinear" for n in graph.walk()):
        raise ModelError(
            "the model is quantized already",
            code="G217",
            where=name,
            hint="give its float original too: --reference FLOAT.onnx",
        )
    divided = open_samples(data, recipe, graph, registry)
    assert divided is not None
    context = make_context(
        recipe, target, registry, divided.calibration, source=graph.copy(), observe=observe
    )
    real = [feed for _, feed in zip(range(2), divided.calibration, strict=False)]
    verifier = Verifier(graph, target, probe_feeds(graph, real, SEED), list(divided.held_out))
    # Noise is what is asked for here: no amount of it is too much.
    limits = dataclasses.replace(recipe.limits, min_snr_db=-1e9)
    runner = Runner(context, verifier, limits)
    # What is trained between two models makes them differ by more than their precision.
    steps = without_training(make_passes(recipe, registry))
    start, _ = quantizing_section(steps)
    runner.run(graph, steps[:start])
    reference = graph.copy()
    runner.run(graph, _all_integer(steps[start:]))
    reasons = {e.node: e.reason for e in context.explanations.values()}
    if ir.structural_hash(graph) == ir.structural_hash(reference):
        why = next((n.message for n in runner.notices), None) or next(
            iter(reasons.values()), "the recipe has no pass that quantizes"
        )
        raise ModelError(
            f"nothing in the model was quantized: {why}",
            code="G217",
            where=name,
            hint="`graphopt compile --data FILE -v` says of each operator why it stays in float",
        )
    return _Pair(reference, graph, divided.calibration, reasons, tuple(runner.notices))


def _all_integer(steps: Sequence[Pass]) -> tuple[Pass, ...]:
    """Return the passes with what the recipe leaves open settled: integer wherever possible."""
    closed = Plan.closed(steps)
    was_open = any(isinstance(s, InsertQdq) and s.placement == "auto" for s in steps)
    return closed.placed("integer").steps if was_open else closed.steps


def _matched(
    quantized: Graph, reference: Graph, data: Source | None, recipe: Recipe, registry: Registry
) -> _Pair:
    """Put a model that is quantized already beside its original."""
    dataset = open_dataset(
        data if data is not None else str(recipe.calibration.data),
        input_specs(reference),
        readers=[reader() for reader in registry.readers().values()],
        preprocessing=recipe.calibration.preprocessing,
    )
    if {v.name for v in quantized.feeds} != {v.name for v in reference.feeds}:
        raise ModelError(
            "the quantized model and its original do not take the same inputs",
            code="G217",
            hint="`graphopt diff` shows how the two differ",
        )
    if reference.opset < quantized.opset:
        ir.upgrade_opset(reference, quantized.opset)
    return _Pair(reference, quantized, dataset, {})
