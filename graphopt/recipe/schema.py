"""What a recipe says, as frozen dataclasses: the schema of which TOML is only the spelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from graphopt.calibration.preprocessing import Preprocessing  # noqa: TC001 - cattrs reads it
from graphopt.errors import RecipeError
from graphopt.recipe.drop import drop_fault, parse_drop
from graphopt.recipe.sizes import ModelSizes

if TYPE_CHECKING:
    from collections.abc import Mapping


def kebab(name: str) -> str:
    """Return the spelling that TOML and the command line use for a Python name."""
    return name.replace("_", "-")


def snake(name: str) -> str:
    """Return the Python name of a TOML or command-line spelling."""
    return name.replace("-", "_")


@dataclass(frozen=True)
class Calibration:
    """The data that ranges are measured on, and how.

    Args:
        data: an .npz or .npy file, a folder of them, or a folder of images; in a recipe file a
            relative path starts at the folder of that file, on the command line at the current one.
            Absent, nothing is calibrated.
        extra: more samples, as in `data`, that passes which train learn from as well: pictures of
            another kind keep a model from learning a few by heart. Nothing is calibrated on them,
            fitted to them or judged by them.
        samples: how many samples the ranges are measured on, at most; at least 1.
        fitted: how many samples what is left after pruning is fitted to and judged by, or trained
            on, at most; at least 1.
        held_out: how many further samples are kept aside to check the result on; 0 or more.
        set_aside: how many samples are kept aside to judge ``limits.max_drop`` on, so that nothing
            is calibrated on them; 0 or more. Absent, where a drop is stated: those that are not
            needed otherwise, or half where that leaves fewer than 500, and 2000 at most.
        observer: how the range of a tensor is chosen from its values: "percentile" clips outliers,
            "min-max" takes the extremes, "moving-average" the mean of the extremes of each sample,
            "entropy" the range that keeps the distribution, "mse" the one with the smallest squared
            error.
        observer_options: options of the observer, such as ``kept`` of "percentile".
        preprocessing: how image files become inputs; needed for folders of images only.
    """

    data: str | None = None
    extra: str | None = None
    samples: int = field(default=128, metadata={"minimum": 1})
    fitted: int = field(default=1000, metadata={"minimum": 1})
    held_out: int = field(default=16, metadata={"minimum": 0})
    set_aside: int | None = field(default=None, metadata={"minimum": 0})
    observer: str = "percentile"
    observer_options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observer_options", _frozen_options(self.observer_options))


@dataclass(frozen=True)
class Limits:
    """What a pass may cost in accuracy before it is rolled back.

    Args:
        min_snr_db: lowest signal-to-noise ratio of the outputs after an approximate pass, in dB:
            10 log10(sum reference^2 / sum difference^2), on the held-out samples.
        max_relative_error: highest error of an exact pass on the probe inputs:
            max|difference| / max|reference|, without unit, 0 or more.
        max_divergence: largest divergence of the outputs after pruning, and after the training that
            follows it where one does, on samples that nothing was fitted to: KL of class scores in
            nats (0.1 is about one point of top-1, 0.2 two to three), half the noise power share of
            other outputs, 0 or more.
        never_slower: write the original where the result is slower on this machine; false where
            size counts more than speed.
        max_drop: largest loss by ``metric`` on validation samples, 0 or more: "1%", or a number in
            the unit of the metric. For metrics in points both are percentage points; of others
            percent are of the original's value. Operators are returned to float until it is kept.
        metric: what ``max_drop`` is counted in: with labels "top1", "top5", "cross-entropy",
            "perplexity", "psnr", "snr", "si-sdr", "negative-mse"; for decoders "next-token-top1";
            without labels "agreement", "kl", "cosine", "spearman",
            "output-snr"; or one of a plugin. Absent,
            top-1 where labels are class numbers, the next token where the model reads tokens and
            scores them, agreement with the original where there are no labels and it decides
            between classes.
        validation: the data that ``max_drop`` is judged on: a file or folder as in
            ``calibration.data``, with labels. Absent, samples of the calibration data that nothing
            is calibrated on.
    """

    min_snr_db: float = 10.0
    max_relative_error: float = field(default=1e-4, metadata={"minimum": 0})
    max_divergence: float = field(default=0.5, metadata={"minimum": 0})
    never_slower: bool = True
    max_drop: float | str | None = field(default=None, metadata={"must": drop_fault})
    metric: str | None = None
    validation: str | None = None

    def __post_init__(self) -> None:
        # What cannot be read is told with its line, where the recipe is checked.
        if self.max_drop is not None and drop_fault(self.max_drop) is None:
            object.__setattr__(self, "max_drop", parse_drop(self.max_drop).spelling)


@dataclass(frozen=True)
class PassEntry:
    """One step of the recipe: a pass and its options.

    Args:
        use: name of the pass, such as "fold-constants".
        options: values by option name in Python spelling (``max_channels``); what is absent keeps
            the default of the pass. Lists are kept as tuples.

    Raises:
        RecipeError: G104, an option is called ``use``.
    """

    use: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "use" in self.options:
            raise RecipeError("`use` names the pass and cannot be an option", code="G104")
        object.__setattr__(self, "options", _frozen_options(self.options))


@dataclass(frozen=True)
class Recipe:
    """Everything that a compile needs besides the model, and all that is needed to repeat it.

    Args:
        version: version of the recipe format; 1.
        target: name or alias of the hardware to compile for.
        requires: plugins that must be installed, such as "graphopt-example>=0.1".
        model: sizes of inputs that the model leaves open.
        calibration: the data that ranges are measured on.
        limits: what a pass may cost in accuracy.
        passes: the passes, in the order in which they run.
    """

    version: Literal[1] = 1
    target: str = "host"
    requires: tuple[str, ...] = ()
    model: ModelSizes = field(default_factory=ModelSizes)
    calibration: Calibration = field(default_factory=Calibration)
    limits: Limits = field(default_factory=Limits)
    passes: tuple[PassEntry, ...] = ()


def _frozen_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {snake(name): _frozen(value) for name, value in options.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
