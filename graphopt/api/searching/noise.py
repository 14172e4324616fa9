"""The noise of each layer of the model that was picked: made once more, and measured on the way."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt.api.compiled import Compiled
from graphopt.api.compiler import compile_model
from graphopt.errors import GraphOptError
from graphopt.recipe import parse_recipe

if TYPE_CHECKING:
    from graphopt.api.searching.ground import Ground


def with_noise(ground: Ground, compiled: Compiled) -> Compiled:
    """Return a model that a search picked, with the noise of its layers in the report.

    Its recipe leaves nothing open, so that making it again is one pass over the data, and gives the
    same model. Where it does not, the report is left as it was: what it says must be of this model.
    """
    try:
        again = compile_model(
            ground.source if ground.source is not None else ground.graph,
            data=ground.data,
            recipe=parse_recipe(compiled.report.recipe),
            measure=False,
            registry=ground.registry,
            validate=True,
            sensitivity=True,
        )
    except GraphOptError:
        return compiled
    if again.report.result.digest != compiled.report.result.digest:
        return compiled
    told = dataclasses.replace(
        compiled.report, layers=again.report.layers, sensitivity=again.report.sensitivity
    )
    return Compiled(compiled.graph, told, compiled.read_from)
