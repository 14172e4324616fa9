"""How samples may be altered: mirrored, moved, with noise, mixed; as stated, or where certain."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from graphopt.errors import RecipeError
from graphopt_torch.samples.alteration import plane_axes

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt_torch.samples.training_samples import TrainingSamples

NONE, AUTO = "none", "auto"
_MOVE = 8
"""A picture is moved by at most one part of so many of its shorter edge."""
_HINT = 'one of "none", "auto", or some of "flip,crop=4,noise=0.05,mixup=0.2"'


@dataclass(frozen=True)
class Augmentation:
    """How a batch is altered before teacher and student see it; both see the same.

    No label is needed: what the teacher says of an altered sample is what is learned.

    Args:
        flip: mirror every other picture, by chance, from left to right.
        crop: move each picture by up to so many pixels along both edges; what is missing is
            reflected, since zero is not black once a picture was normalised.
        noise: deviation of Gaussian noise, as a share of that of the channel.
        mixup: a of Beta(a, a), from which the share of another sample of the batch is drawn that is
            mixed into each (Zhang et al. 2018, "mixup"); 0 for none.
    """

    flip: bool = False
    crop: int = 0
    noise: float = 0.0
    mixup: float = 0.0

    @classmethod
    def of(cls, text: str, graph: Graph, samples: TrainingSamples | None = None) -> Augmentation:
        """Return what an option states.

        Args:
            text: "none"; "auto": mirrored, moved by an eighth and mixed where the samples are
                certain to be colour pictures, else nothing; or a list such as "flip,crop=4".
            graph: whose inputs are altered.
            samples: what "auto" looks at; without them it is none.

        Raises:
            RecipeError: G103, no such alteration, a value out of range, or one that no input of the
                graph can have.
        """
        if text == AUTO:
            return cls._certain(samples)
        made = cls() if text in ("", NONE) else _parsed(text)
        _check(made, graph, text)
        return made

    @classmethod
    def _certain(cls, samples: TrainingSamples | None) -> Augmentation:
        if samples is None or not samples.are_pictures:
            return cls()
        (shape,) = samples.shapes[0].values()
        return cls(flip=True, crop=max(1, min(shape[-2:]) // _MOVE), mixup=1.0)

    @property
    def is_none(self) -> bool:
        """Whether nothing is altered."""
        return self == Augmentation()

    def __str__(self) -> str:
        told = ["flip"] * self.flip
        told += [
            f"{field.name}={value:g}"
            for field in fields(self)
            if field.name != "flip" and (value := getattr(self, field.name))
        ]
        return ",".join(told) or NONE


def _parsed(text: str) -> Augmentation:
    """Return what a list states."""
    made = Augmentation()
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if part.strip() == "flip":
            made = replace(made, flip=True)
        elif name == "crop" and value.isdigit():
            made = replace(made, crop=int(value))
        elif name == "noise" and (share := _positive(value)) is not None:
            made = replace(made, noise=share)
        elif name == "mixup" and (share := _positive(value)) is not None:
            made = replace(made, mixup=share)
        else:
            raise RecipeError(f"`augment` has `{part.strip()}`", code="G103", hint=_HINT)
    return made


def _positive(value: str) -> float | None:
    """Return a number of at least 0; None for anything else."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0.0 else None


def _check(made: Augmentation, graph: Graph, text: str) -> None:
    """Raise RecipeError G103 for what no input can have."""
    floats = [v for v in graph.feeds if v.dtype is not None and v.dtype.is_float]
    edges = [axes for v in floats if (axes := plane_axes(_sizes(v.shape))) is not None]
    if (made.flip or made.crop) and not edges:
        fault = "no input of the model is a picture"
    elif (made.noise or made.mixup) and not floats:
        fault = "no input of the model is of floats"
    else:
        return
    raise RecipeError(
        f"`augment` is {text!r} and {fault}",
        code="G103",
        hint='use "none", or an alteration that the inputs can have',
    )


def _sizes(shape: tuple[int | str | None, ...] | None) -> tuple[int, ...]:
    """Return a shape with what is open as large as any picture."""
    return tuple(d if isinstance(d, int) else 1 << 10 for d in shape or ())
