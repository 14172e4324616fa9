"""Recovery by training, as it is asked for in one word: where a recipe trains, and for how long."""

from __future__ import annotations

import copy
import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.errors import RecipeError
from graphopt.recipe.drafts import Draft, Place
from graphopt.recipe.overrides import overridden
from graphopt.recipe.schema import PassEntry, Recipe
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TRAINING = "distill-weights"
"""The pass that trains; a plugin has it."""

OFF = "off"
LEVELS: Mapping[str, float] = {OFF: 0.0, "light": 2.0, "full": 15.0}
"""Minutes of training, all in all, by name."""

_PRUNES = "prune-channels"
QUANTIZING = ("insert-qdq", "quantize-matmuls", "quantize-weights")
FLOAT_SHARE = 2 / 3
"""Of the time where a model is trained in float, and once more quantized: most was lost before."""
_EXACT = re.compile(r"(minutes|steps)\s*=\s*(\d+(?:\.\d+)?)")
_EXPECTED = "write off, light, full, minutes=5 or steps=200"

Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class Recovery:
    """How much training is asked for.

    Args:
        minutes: all in all; 0 where steps are stated.
        steps: of each training; 0 where minutes are.
        text: as it was asked for.
    """

    minutes: float
    steps: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Recovery:
        """Return what a user asked for: "off", "light", "full", "minutes=5" or "steps=200".

        Raises:
            RecipeError: G103, it is none of these.
        """
        if text in LEVELS:
            return cls(LEVELS[text], 0, text)
        found = _EXACT.fullmatch(text.strip())
        if found is not None and found[1] == "minutes":
            return cls(float(found[2]), 0, text)
        if found is not None and "." not in found[2]:
            return cls(0.0, int(found[2]), text)
        hint = _EXPECTED if "=" in text else suggestion(text, LEVELS, "words for it")
        raise RecipeError(
            f"`{text}` is no amount of training",
            code="G103",
            where=f"--recover {text}",
            hint=f"{hint}; {_EXPECTED}" if hint != _EXPECTED else hint,
        )

    @property
    def trains(self) -> bool:
        """Whether anything is to be trained."""
        return bool(self.minutes or self.steps)

    def options(self, share: float) -> dict[str, Any]:
        """Return the options of one training that has a share of the time."""
        if self.steps:
            return {"steps": self.steps}
        return {"minutes": round(share * self.minutes, 3), "steps": 0}


def recovering(draft: Draft, recovery: Recovery, overrides: Sequence[str] = ()) -> Draft:
    """Return a draft that trains for as long as was asked, where there is something to recover.

    A recipe that has passes which train keeps them where they are. In any other one a pass is put
    behind the one that prunes, and another behind the last that quantizes. What has nothing to
    recover, since the recipe prunes nothing, gets no time.

    Args:
        draft: a checked recipe, with no overrides applied.
        recovery: how much.
        overrides: will be applied later; they may say that the recipe prunes.
    """
    place = Place("--recover", text=recovery.text)
    made = draft
    if recovery.trains and not any(e.get("use") == TRAINING for e in _entries(draft)):
        made = _with_entries(draft, place)
    seen = _entries(overridden(made, overrides))
    used = [i for i, entry in enumerate(seen) if entry.get("use") == TRAINING]
    able = [i for i in used if _has_cause(seen[:i])]
    shares = _shares(len(able))
    result = Draft(copy.deepcopy(made.table), dict(made.places))
    for index in used:
        share = shares[able.index(index)] if index in able else 0.0
        told = recovery.options(share) if share else {"minutes": 0.0, "steps": 0}
        for option, value in told.items():
            result.table["passes"][index][option] = value
            result.places["passes", index, option] = place
    _spare_samples(result, seen[: max(able, default=0)], place)
    return result


def _spare_samples(draft: Draft, before: Sequence[Mapping[str, Any]], place: Place) -> None:
    """Let a pass that prunes before a training fit nothing to the samples that judge the training.

    A model diverges less on samples that it was fitted to than on others: no training would come up
    to that, and all of it would be thrown away.
    """
    for index, entry in enumerate(before):
        if _prunes(entry) and "refit" not in entry:
            draft.table["passes"][index]["refit"] = False
            draft.places["passes", index, "refit"] = place


def sparing(recipe: Recipe) -> Recipe:
    """Return a recipe whose passes that prune leave samples for the training behind them.

    What says itself whether it fits to all samples is left alone.
    """
    entries = recipe.passes
    last = max((i for i, e in enumerate(entries) if _trains(e)), default=0)
    spared = (
        PassEntry(e.use, {**e.options, "refit": False})
        if i < last and "refit" not in e.options and _prunes({"use": e.use, **e.options})
        else e
        for i, e in enumerate(entries)
    )
    return dataclasses.replace(recipe, passes=tuple(spared))


def _trains(entry: PassEntry) -> bool:
    return entry.use == TRAINING and any(entry.options.get(o) for o in ("minutes", "steps"))


def training_places(uses: Sequence[str]) -> list[int]:
    """Return before which passes of a recipe, by name, one that trains belongs; ascending."""
    pruning = [i + 1 for i, use in enumerate(uses) if use == _PRUNES][:1]
    quantizing = [i + 1 for i, use in enumerate(uses) if use in QUANTIZING][-1:]
    return sorted({*pruning, *quantizing})


def _entries(draft: Draft) -> Entries:
    found: Entries = draft.table.get("passes", [])
    return found


def _with_entries(draft: Draft, place: Place) -> Draft:
    made = Draft(copy.deepcopy(draft.table), dict(draft.places))
    entries = _entries(made)
    for index in reversed(training_places([str(e.get("use")) for e in entries])):
        entries.insert(index, {"use": TRAINING})
        made.places = dict(_moved(made.places, index))
        made.places["passes", index] = made.places["passes", index, "use"] = place
    return made


def _moved(places: Mapping[Any, Place], index: int) -> Iterator[tuple[Any, Place]]:
    """Yield places with those of the passes from ``index`` on moved by one."""
    for path, place in places.items():
        if path[:1] == ("passes",) and len(path) > 1 and path[1] >= index:
            yield ("passes", path[1] + 1, *path[2:]), place
        else:
            yield path, place


def _has_cause(before: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a pass before a training may have cost accuracy."""
    names = {entry.get("use") for entry in before}
    return any(map(_prunes, before)) or bool(names & set(QUANTIZING))


def _prunes(entry: Mapping[str, Any]) -> bool:
    goals = ("to", "widths", "branches")
    return entry.get("use") == _PRUNES and any(entry.get(goal) for goal in goals)


def _shares(count: int) -> list[float]:
    """Return the share of the time of each training; the last, of several, is the shortest."""
    if count < 2:
        return [1.0] * count
    return [FLOAT_SHARE / (count - 1)] * (count - 1) + [1.0 - FLOAT_SHARE]
