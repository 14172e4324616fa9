"""From what the user asks for to the objects that do it: recipe, target, passes, data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.api.division import Samples, divided
from graphopt.api.host_profile import with_host_profile
from graphopt.api.recovery import can_train, is_training
from graphopt.api.sizes import sizes_given
from graphopt.api.source import input_specs
from graphopt.errors import DataError, GraphOptError, TargetError
from graphopt.ir import infer_shapes
from graphopt.pipeline import PipelineContext
from graphopt.recipe import (
    Calibration,
    Recovery,
    ResolvedRecipe,
    check_requirements,
    instantiate,
    layered,
    make_observer,
    validate,
)
from graphopt.registry import Registry
from graphopt.targets import read_target
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.calibration.base import Dataset, Observer
    from graphopt.calibration.sources import Source
    from graphopt.calibration.synthetic import SyntheticDataset
    from graphopt.cost.base import CostModel
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.recipe import Recipe
    from graphopt.report import Observe
    from graphopt.targets.base import Target


SEED = 0
"""Of every random choice of a compile."""

_MOST_STAND_INS = 300


def resolve_recipe(
    *,
    model: object = None,
    target: str | None = None,
    data: object = None,
    validation: object = None,
    recipe: ResolvedRecipe | Recipe | Path | str | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    overrides: Sequence[str] = (),
    recover: str | None = None,
    registry: Registry | None = None,
) -> ResolvedRecipe:
    """Return the recipe that preset, project file, ``recipe``, arguments and overrides give.

    One that was resolved before is returned as it is. Where training is asked for and no plugin can
    train, there is none in the recipe.

    Raises:
        RecipeError: G101 to G108, with file and line where there is one.
    """
    if isinstance(recipe, ResolvedRecipe):
        return recipe
    registry = registry or Registry()
    arguments: dict[str | tuple[str, ...], Any] = {}
    if target is not None:
        arguments["target"] = target
    if isinstance(data, str | Path):
        arguments["calibration.data"] = str(data)
    if isinstance(validation, str | Path):
        arguments["limits.validation"] = str(validation)
    sizes = sizes_given(shapes, dims)
    arguments |= {("model", "shapes", n): list(shape) for n, shape in sizes.shapes.items()}
    arguments |= {("model", "dims", n): dim for n, dim in sizes.dims.items()}
    path = Path(model) if isinstance(model, str | Path) else None
    trained = recover is None or not Recovery.parse(recover).trains or can_train(registry)
    resolved = layered(
        model=path,
        recipe=recipe,
        arguments=arguments,
        overrides=overrides,
        recover=recover if trained else None,
    )
    resolved = dataclasses.replace(resolved, recover=recover or "")
    check_requirements(resolved.recipe)
    # The usual observer needs no check, nor the import of all others.
    usual = resolved.recipe.calibration == Calibration()
    observers = None if usual else registry.observers()
    validate(resolved, _pass_classes(resolved.recipe, registry), observers)
    return resolved


def _pass_classes(recipe: Recipe, registry: Registry) -> dict[str, type[Any]]:
    """Return the passes of a recipe by name; all that there are where one is unknown."""
    try:
        return {entry.use: registry.pass_class(entry.use) for entry in recipe.passes}
    except GraphOptError:
        qualified = {e.use: registry.pass_class(e.use) for e in recipe.passes if ":" in e.use}
        return registry.passes() | qualified


def find_target(name: str, registry: Registry) -> Target:
    """Return a target by name, alias, or path of a TOML file or a profile.

    ``host`` has the profile that ``graphopt profile`` measured on this machine, if it did.
    """
    if name.endswith((".toml", ".json")):
        if not Path(name).is_file():
            raise TargetError(
                f"there is no target file `{name}`",
                code="G501",
                where=name,
                hint="`graphopt targets` lists the targets that need no file",
            )
        return read_target(Path(name))
    return with_host_profile(registry.target(name))


def open_samples(
    data: Source | None,
    recipe: Recipe,
    graph: Graph,
    registry: Registry,
    *,
    validate: bool = False,
    judged: Source | None = None,
) -> Samples | None:
    """Open the data that the call or the recipe names, and divide it; None without any.

    Args:
        data: the user's own, before the recipe's.
        recipe: says how much of it is for what, and whether a drop is stated that has to be judged.
        graph: what it is for.
        registry: readers.
        validate: accuracy is judged even where no drop is stated; recipes that are made of this one
            may remove units, so that layers are fitted to samples.
        judged: what accuracy is judged on, before the recipe's; by default a part of the data.

    Raises:
        DataError: G211 to G214; G213, there are extra samples and no data.
    """
    calibration, limits = recipe.calibration, recipe.limits
    source = data if data is not None else calibration.data
    if source is None:
        if calibration.extra is not None:
            raise DataError(
                "there are extra samples to train on, and no data that they would be added to",
                code="G213",
                where="calibration.extra",
                hint="give samples of what the model is for with --data",
            )
        return None
    # What reads and divides data is not imported where there is none.
    from graphopt.calibration.sources import open_dataset
    from graphopt.passes.prune.prune_channels import prunes

    def opened(given: Source) -> Dataset:
        return open_dataset(
            given,
            input_specs(graph),
            readers=[reader() for reader in registry.readers().values()],
            preprocessing=calibration.preprocessing,
        )

    other = judged if judged is not None else limits.validation
    steps = make_passes(recipe, registry)
    samples = divided(
        opened(source),
        calibration,
        judged=opened(other) if other is not None else None,
        judges=validate or limits.max_drop is not None,
        fits=validate or prunes(steps) or any(map(is_training, steps)),
    )
    if calibration.extra is None:
        return samples
    return dataclasses.replace(samples, extra=opened(calibration.extra))


def make_stand_in(calibration: Calibration, graph: Graph) -> SyntheticDataset | None:
    """Return synthetic samples to fit layers to after pruning; None where nothing tells of any.

    Ranges are never measured on them: what is rare in the data is not in its means and variances.

    Args:
        calibration: says how many.
        graph: as the user gave it, before BatchNormalization is folded.
    """
    from graphopt.calibration.synthetic import synthetic_dataset

    made = graph.copy()
    infer_shapes(made)
    return synthetic_dataset(made, SEED, min(calibration.fitted, _MOST_STAND_INS))


def make_passes(recipe: Recipe, registry: Registry) -> list[Pass]:
    """Build the passes of a recipe, in order."""
    return [instantiate(entry, registry.pass_class(entry.use)) for entry in recipe.passes]


def observer_of(calibration: Calibration, registry: Registry) -> Observer:
    """Build the observer of a calibration."""
    return make_observer(calibration, registry.observer_class(calibration.observer))


def make_context(
    recipe: Recipe,
    target: Target,
    registry: Registry,
    calibration: Dataset | None,
    *,
    source: Graph | None = None,
    fitted: Dataset | None = None,
    extra: Dataset | None = None,
    observe: Observe | None = None,
) -> PipelineContext:
    """Build what the passes of one compile are given.

    Args:
        recipe: names the observer.
        target: what is compiled for.
        registry: passes, targets and so on.
        calibration: samples to measure ranges on.
        source: the model as it was given, with its sizes.
        fitted: samples to fit and train on; ``calibration`` when None.
        extra: samples that are only trained on.
        observe: is told about progress.
    """
    return PipelineContext(
        target=target,
        cost=cost_model(target, registry),
        dataset=calibration,
        find_observer=lambda: observer_of(recipe.calibration, registry),
        seed=SEED,
        version=VERSION,
        observe=observe,
        find_rules=registry.coupling_rules,
        find_importances=registry.importances,
        source=source,
        fitted=fitted,
        extra=extra,
    )


def cost_model(target: Target, registry: Registry) -> CostModel:
    """Return the cost model that the target names."""
    return registry.cost_model_class(target.cost_model)()
