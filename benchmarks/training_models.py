"""Makes the models of training.py: recipes with training in them, compiled one by one.

Each is compiled by the command line in a process of its own, whose time and peak memory are what a
user sees, and kept in a folder under a digest of everything that it depends on: a run that was
ended goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from graphopt.api import resolve_recipe
from graphopt.recipe import PassEntry, parse_recipe, write_recipe
from pruning_contenders import Made, digest, macs_of, measured, sources
from workloads import _cifar, _imagenet, _load, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from graphopt.recipe import Recipe
    from workloads import Array, Workload

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "plugins" / "graphopt-torch"
TRAINING = "distill-weights"
FROM_CIFAR, CROPS = 1500, 20
"""Pictures of other data sets: of CIFAR-10, and crops of each photo of faces."""
NO_LIMITS = {"min_snr_db": -100.0, "max_divergence": 100.0, "never_slower": False}
"""What was made is judged here, so that nothing is rolled back before."""


@dataclass(frozen=True)
class Order:
    """What a recipe is made for.

    Args:
        goal: of pruning, such as "macs=1000000".
        samples: to fit and train on, at most.
        training: options of the passes that train; empty for no training.
        closed: the report's recipe of the model that was only pruned, where that is trained.
        extra: a file of samples that are only trained on; empty for none.
    """

    goal: str
    samples: int
    training: Mapping[str, Any]
    closed: str = ""
    extra: str = ""


def pruned(order: Order) -> Recipe:
    """Return a recipe that prunes to a goal, and quantizes nothing."""
    made = _limitless("default", order)
    made = with_options(made, "prune-channels", to=order.goal)
    made = with_options(made, "insert-qdq", placement="float")
    for use in ("quantize-matmuls", "align-channels"):
        made = with_options(made, use, mode="off")
    # Nothing is quantized, so no samples are kept aside to check that.
    return dataclasses.replace(made, calibration=dataclasses.replace(made.calibration, held_out=0))


def trained(order: Order) -> Recipe:
    """Return the recipe that repeats what was pruned, and trains it."""
    closed = parse_recipe(order.closed)
    calibration = dataclasses.replace(closed.calibration, extra=order.extra or None)
    closed = dataclasses.replace(closed, calibration=calibration)
    return behind(closed, "prune-channels", PassEntry(TRAINING, order.training))


def integer(order: Order) -> Recipe:
    """Return a recipe that runs everything in integers that the host can run so."""
    return with_training(_limitless("integer", order), order)


def few_bits(order: Order) -> Recipe:
    """Return a recipe for integers whose weights have 4 bits."""
    made = _limitless("integer", order)
    stored = PassEntry("store-weights", {"format": "off", "four_bits": 1.0})
    return with_training(dataclasses.replace(made, passes=(*made.passes, stored)), order)


def weight_only(order: Order) -> Recipe:
    """Return a recipe that stores the weights of products in 4 bits."""
    made = _limitless("weight-only", order)
    return with_training(with_options(made, "quantize-weights", bits=4), order)


PLANS: Mapping[str, Callable[[Order], Recipe]] = {
    "prune": pruned,
    "train": trained,
    "integer": integer,
    "train integer": integer,
    "few bits": few_bits,
    "train few bits": few_bits,
    "weight only": weight_only,
    "train weight only": weight_only,
}


def with_options(recipe: Recipe, use: str, **options: Any) -> Recipe:
    """Return a recipe with options of a pass, wherever it has that, changed."""
    passes = tuple(
        PassEntry(e.use, {**e.options, **options}) if e.use == use else e for e in recipe.passes
    )
    return dataclasses.replace(recipe, passes=passes)


def behind(recipe: Recipe, use: str, entry: PassEntry) -> Recipe:
    """Return a recipe with a pass put behind the last one of a name."""
    place = max(i for i, e in enumerate(recipe.passes) if e.use == use) + 1
    passes = (*recipe.passes[:place], entry, *recipe.passes[place:])
    return dataclasses.replace(recipe, passes=passes)


def with_training(recipe: Recipe, order: Order) -> Recipe:
    """Return a recipe that trains at its end, where that is ordered."""
    if not order.training:
        return recipe
    entry = PassEntry(TRAINING, order.training)
    return dataclasses.replace(recipe, passes=(*recipe.passes, entry))


def _limitless(preset: str, order: Order) -> Recipe:
    made = resolve_recipe(recipe=preset).recipe
    return dataclasses.replace(
        made,
        calibration=dataclasses.replace(made.calibration, fitted=order.samples),
        limits=dataclasses.replace(made.limits, **NO_LIMITS),
    )


# -- compiling -----------------------------------------------------------------------------


class Kitchen:
    """Makes the models of one workload.

    Args:
        workload: the model and its data.
        samples: unlabelled ones to calibrate, fit and train on.
        folder: where everything is kept.
    """

    def __init__(self, workload: Workload, samples: int, folder: Path) -> None:
        self.workload = workload
        self.samples = samples
        self.folder = folder / "training"
        self.data = write_unlabelled(workload, samples, self.folder / "samples")
        self.site = installed(self.folder)

    @cached_property
    def others(self) -> Path:
        """A file with pictures of other data sets, for a model of ImageNet."""
        return write_others(self.workload, self.data.parent)

    def goal(self, times: float) -> str:
        """Return so many times fewer multiply-accumulates than the file has, as recipes say it."""
        return f"macs={macs_of(self.workload.path) / times:.0f}"

    def make(self, model: Path, recipe: Recipe, seed: int, *options: str) -> Made:
        """Compile a model, or find it where an earlier run has left it."""
        text = write_recipe(recipe)
        extra = [Path(recipe.calibration.extra)] if recipe.calibration.extra else []
        told = " ".join([sources(), plugin_sources(), text, str(seed), *options])
        made_of = digest([model, self.data, *extra], told)
        home = self.folder / "compiled" / f"{self.workload.name}-{made_of}"
        facts = home / "facts.json"
        if not facts.exists():
            home.mkdir(parents=True, exist_ok=True)
            (home / "recipe.toml").write_text(text, encoding="utf-8")
            facts.write_text(json.dumps(self._run(model, home, seed, options)))
        known = json.loads(facts.read_text())
        if known["reason"]:
            return Made(None, {}, **known)
        return Made(home / "model.onnx", json.loads((home / "model.json").read_text()), **known)

    def _run(self, model: Path, home: Path, seed: int, options: Sequence[str]) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "training_compile.py"), str(seed), "--no-progress"]
        command += ["compile", str(model), "--data", str(self.data), "--keep"]
        command += ["--recipe", str(home / "recipe.toml"), "-o", str(home / "model.onnx"), *options]
        cached = self.folder / "cache" / f"{sources()}-{plugin_sources()}"
        cached.mkdir(parents=True, exist_ok=True)
        return measured(command, {"GRAPHOPT_CACHE": str(cached), "PYTHONPATH": str(self.site)})


def installed(folder: Path) -> Path:
    """Return a folder to import the plugin from, with its entry points, as users have it."""
    site = folder / "site" / plugin_sources()
    if not site.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", "--target", str(site), str(PLUGIN)]
        subprocess.run(command, check=True)
    return site


@cache
def plugin_sources() -> str:
    """Return a digest of the plugin's source."""
    return digest(sorted((PLUGIN / "graphopt_torch").rglob("*.py")))


# -- samples -------------------------------------------------------------------------------


def write_unlabelled(workload: Workload, count: int, folder: Path) -> Path:
    """Write unlabelled samples as the model wants them; return the file."""
    path = folder / f"{workload.name}-{count}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (name,) = workload.feeds()[0]
        np.savez(path, **{name: unlabelled(workload, count)})
    return path


def write_others(workload: Workload, folder: Path) -> Path:
    """Write pictures of other data sets as the model wants them; return the file."""
    path = folder / f"{workload.name}-others-{FROM_CIFAR}-{CROPS}.npz"
    if not path.exists():
        ((name, image),) = workload.feeds()[0].items()
        side = image.shape[-1]
        pictures = [_resized(x, side) for x in _load("cifar10_dev.npz")["calib_x"][:FROM_CIFAR]]
        pictures += [_resized(x, side) for x in _crops(_load("faces_320x240.npz")["x"])]
        np.savez(path, **{name: _imagenet(np.stack(pictures))})
    return path


def _crops(photos: Array) -> Iterator[Array]:
    """Yield squares of photos, uint8 [side, side, 3], at drawn places."""
    random = np.random.default_rng(0)
    for photo in photos:
        for _ in range(CROPS):
            height, width = photo.shape[:2]
            side = int(random.integers(height // 3, height))
            top, left = random.integers(0, [height - side + 1, width - side + 1])
            yield photo[top : top + side, left : left + side]


def _resized(picture: Array, side: int) -> Array:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def unlabelled(workload: Workload, count: int) -> Array:
    """Return samples that ``tested`` does not have, as the model wants them."""
    name = workload.name
    if name.startswith("imagenet"):
        return _imagenet(_load("imagenet_unlabelled_r112.npz")["x"][:count])
    if name.startswith("cifar"):
        return _cifar(_load("cifar10_dev.npz")["calib_x"][:count])
    # There are few: those to calibrate on, and half of those that others test on.
    feeds = workload.feeds()
    (calibration,) = workload.calibration().values()
    half = [next(iter(feed.values())) for feed in feeds[: len(feeds) // 2]]
    return np.concatenate([calibration, *half])[:count]


def tested(workload: Workload) -> Workload:
    """Return a workload with what nothing is trained on, where there is but one set of samples."""
    if workload.name.startswith(("imagenet", "cifar")):
        return workload
    labels = workload.labels()
    assert labels is not None
    first = len(workload.feeds()) // 2
    return dataclasses.replace(
        workload, feeds=lambda: workload.feeds()[first:], labels=lambda: labels[first:]
    )


def workload_of(name: str) -> Workload:
    """Return a workload by name."""
    (found,) = workloads([name])
    return found
