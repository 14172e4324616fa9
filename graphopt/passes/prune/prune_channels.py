"""Remove channels, heads, hidden units and branches, and fit what is left to the original.

Nothing is trained and no labels are needed: units are removed with everything that they are coupled
to, and each layer that lost inputs is fitted by least squares to what it computed before, on the
inputs that it is given now.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.prune.assemble import assemble, cut_out
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.effort import AUTO, EFFORTS, THOROUGH, Effort, Thoroughness, criteria_of
from graphopt.passes.prune.goal import Goal
from graphopt.passes.prune.narrow import check_removal, choose, consumers_of
from graphopt.passes.prune.outputs import output_divergence
from graphopt.passes.prune.reconstruct.moments import moments_of
from graphopt.passes.prune.result_cache import Result, content_key, kept_result
from graphopt.passes.prune.samples import USUAL, Fitting, is_scored
from graphopt.passes.prune.unquantized import unquantized
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import Coupling, Group
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, Pass
    from graphopt.passes.prune.importance.base import Importance

    Array = np.ndarray[Any, Any]


Order = Literal["prune-first", "quantize-first", "auto"]
PRUNE_FIRST: Literal["prune-first"] = "prune-first"
QUANTIZE_FIRST: Literal["quantize-first"] = "quantize-first"
BOTH_ORDERS: Literal["auto"] = "auto"


@dataclass(frozen=True)
class PruneChannels:
    """Remove units that the outputs depend on least, and fit the rest to the original.

    A quantized model is pruned in float: its Q and DQ are taken out, and what the recipe runs
    behind this pass quantizes what is left.

    Args:
        to: what to reach, such as "latency=0.6x", "macs=0.5x", "params=100k", "ram=256kB" or
            "size=1MB"; ``widths`` and ``branches`` are then chosen. Nothing is removed by default.
        widths: "GROUP=COUNT" for each group that is to have fewer units, or
            "GROUP=COUNT@CRITERION" where another criterion says which.
        branches: "TENSOR=KIND" for each residual branch, by the last tensor that it makes, that
            is dropped ("drop"), replaced by one product ("lin1", "lin3"), or by one that is the
            skip as well ("merged1", "merged3").
        criterion: what says which units of a group matter least; "auto" tries "block-obs",
            "wanda" and "l2" on every width and keeps the choice with which outputs diverge least.
            Where widths are stated without one, it means "block-obs".
        exclude: weights, tensors or groups that stay as they are.
        rebuild: whether layers are fitted; without data they cannot be.
        copies: how many mirrored or moved copies of each image are fitted to as well; -1 for as
            many as it takes to see 700 images, three at most, where the input has three channels.
        refit: whether layers are fitted to all samples once it is known how far outputs diverge on
            those that were kept for that.
        order: what ``to`` is decided on where the recipe quantizes what is left: the float model
            ("prune-first"), the quantized one ("quantize-first": ``to`` is then a share of its
            figure, and what is saved is what it saves between integers), or both to that figure
            ("auto": the model whose quantized outputs diverge least is kept). Layers are fitted in
            float and quantized last either way. Goals of "macs" and "params" are the same in all.
        effort: what choosing and fitting are worth: "thorough" does everything; "careful" scores
            options on 256 samples and makes one choice into a fitted model; "normal" also fits that
            only once, to 400 samples; "quick" also tries one criterion, half of the widths and 128
            samples, and fits every layer on its own by plain least squares.
    """

    name: ClassVar[str] = "prune-channels"
    effect: ClassVar[Effect] = Effect.REDUCED

    to: str = ""
    widths: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    criterion: str = AUTO
    exclude: tuple[str, ...] = ()
    rebuild: bool = True
    copies: int = USUAL
    refit: bool = True
    order: Order = "prune-first"
    effort: Effort = THOROUGH

    def __post_init__(self) -> None:
        if self.to:
            Goal.parse(self.to)
            if self.widths or self.branches:
                raise RecipeError(
                    "`to` and stated widths or branches exclude each other",
                    code="G103",
                    hint="leave out `to` to prune what is stated, or the others to have it chosen",
                )
        _counts(self.widths)
        for name, kind in _pairs(self.branches, _BRANCH_HINT).items():
            if kind not in set(Kind):
                raise RecipeError(
                    f"`{name}={kind}` is no kind of branch", code="G103", hint=_BRANCH_HINT
                )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Remove what the options say; raises PassError G309 when that was not exact."""
        if not self.widths and not self.branches:
            # A compile settles a goal before it runs the pass; whoever runs it alone is told.
            idle = (f"nothing removed: only `compile` decides what reaches {self.to}",)
            return PassResult(False, idle if self.to else ())
        ir.infer_shapes(graph)
        made = self._kept(graph.copy(), context, refit=False)
        metrics = dict(made.metrics)
        apart = metrics.get("divergence")
        if self.rebuild and self.refit and self.thoroughness.refits and apart is not None:
            made = self._kept(graph.copy(), context, refit=True)
        notes = _notes(int(metrics["units removed"]), len(self.widths), made.fitted, apart)
        if made.metrics.get("unquantized"):
            notes.append("Q and DQ taken out, to fit what is left in float")
        metrics.pop("unquantized", None)
        graph.assign(made.graph)
        ir.infer_shapes(graph)
        return PassResult(True, tuple(notes), metrics)

    def _kept(self, given: Graph, context: Context, *, refit: bool) -> Result:
        """Return what is made of a graph, fitted to some samples or to all; see ``kept_result``."""
        asked = dataclasses.replace(self, to="", order=PRUNE_FIRST, refit=refit)
        key = content_key(given, context, "prune-channels", asked, self.plugged_in(context))
        return kept_result(key, context, lambda: self._made(given, context, refit=refit))

    def plugged_in(self, context: Context) -> list[str]:
        """Return what says which units there are and go: a plugin may be another one tomorrow."""
        rules = {name: rule.couple for name, rule in context.coupling_rules.items()}
        kinds = {**context.importances, **rules}
        return sorted(f"{name} {kind.__module__}" for name, kind in kinds.items())

    def _made(self, given: Graph, context: Context, *, refit: bool) -> Result:
        bare = unquantized(given, context) if self.rebuild else None
        original = given if bare is None else bare
        coupling = couple(original, context.coupling_rules)
        keeps = self.keeps(original, coupling, context)
        metrics = {"units removed": float(sum((~keep).sum() for keep in keeps.values()))}
        if bare is not None:
            metrics["unquantized"] = 1.0
        kinds, samples = self.kinds(), self.fitting
        if refit:
            samples = dataclasses.replace(samples, everything=True)
        else:
            error = check_removal(original, coupling, keeps, context)
            if error is not None:
                metrics["oracle error"] = error
        if not self.rebuild:
            made = cut_out(original, coupling.cut(keeps), kinds, context, samples)
            fitted: dict[str, str] = {}
        else:
            how = self.thoroughness
            made, fitted = assemble(original, coupling, keeps, kinds, context, samples, how)
        apart = None if refit else output_divergence(given, made, context, is_scored)
        if apart is not None:
            metrics["divergence"] = apart
        return Result(made, fitted, metrics)

    @property
    def fitting(self) -> Fitting:
        """The samples that are fitted to while others are kept for scores."""
        return Fitting(self.copies, first=self.thoroughness.fitted)

    @property
    def trying(self) -> Fitting:
        """The samples that options are fitted to and scored on, while a goal is settled."""
        how = self.thoroughness
        copies = self.copies if how.trial_copies == USUAL else how.trial_copies
        return Fitting(copies, first=how.tried)

    @property
    def thoroughness(self) -> Thoroughness:
        """What the effort stands for."""
        return EFFORTS[self.effort]

    def keeps(self, graph: Graph, coupling: Coupling, context: Context) -> dict[str, Array]:
        """Return which units of each group in ``widths`` stay."""
        groups = {group.name: group for group in coupling.groups}
        widths = _counts(self.widths)
        for name in widths:
            if name not in groups:
                raise RecipeError(
                    f"there is no group `{name}` to prune",
                    code="G103",
                    hint="`graphopt analyze --pruning MODEL` lists them",
                )
            if self.leaves(groups[name]):
                raise _contradiction(name)
        nodes = consumers_of(groups[name] for name in widths)
        moments = moments_of(graph, nodes, context, self.fitting)
        found: dict[str, Array] = {}
        for name, (count, by) in widths.items():
            criterion = self.importance(by or self.criteria[0], context)
            found |= choose(groups, {name: count}, moments, criterion, context.seed)
        return found

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria to try."""
        return criteria_of(self.criterion, self.effort)

    def importance(self, name: str, context: Context) -> Importance:
        """Return a criterion; raises RecipeError G103 when there is none of that name."""
        found = context.importances.get(name)
        if found is None:
            names = ", ".join(f"`{known}`" for known in sorted(context.importances))
            raise RecipeError(
                f"unknown importance criterion `{name}`",
                code="G103",
                hint=f"choose one of {names}",
            )
        return found()

    def kinds(self) -> dict[str, Kind]:
        """Return what becomes of branches, by name; RecipeError G103 if one is excluded as well."""
        found = {name: Kind(kind) for name, kind in _pairs(self.branches, _BRANCH_HINT).items()}
        for name in found:
            if name in self.exclude:
                raise _contradiction(name)
        return found

    def leaves(self, group: Group) -> bool:
        """Whether a group is to stay as it is, by its name or that of a tensor it is in."""
        names = {group.name, *(axis.value.name for axis in group.axes)}
        return not names.isdisjoint(self.exclude)


_WIDTH_HINT = 'write "GROUP=COUNT", such as "w1=48"'
_BRANCH_HINT = 'write "TENSOR=KIND"; kinds: ' + ", ".join(f'"{kind}"' for kind in Kind)


def _contradiction(name: str) -> RecipeError:
    return RecipeError(
        f"`{name}` is to change, and is in `exclude`",
        code="G103",
        hint="take it out of `exclude`, or out of `widths` and `branches`",
    )


def _pairs(texts: tuple[str, ...], hint: str) -> dict[str, str]:
    """Read "NAME=VALUE"; raises RecipeError G103."""
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value:
            raise RecipeError(f"`{text}` is not NAME=VALUE", code="G103", hint=hint)
        found[name] = value
    return found


def _counts(texts: tuple[str, ...]) -> dict[str, tuple[int, str]]:
    """Read "GROUP=COUNT" and "GROUP=COUNT@CRITERION"; raises RecipeError G103."""
    found = {}
    for name, text in _pairs(texts, _WIDTH_HINT).items():
        count, _, criterion = text.partition("@")
        if not count.isdigit() or int(count) < 1:
            raise RecipeError(f"`{name}={text}` is no width", code="G103", hint=_WIDTH_HINT)
        found[name] = (int(count), criterion)
    return found


def _notes(removed: int, groups: int, fitted: Mapping[str, Any], apart: float | None) -> list[str]:
    notes = [counted(removed, "unit", f"removed from {counted(groups, 'group', '')}".strip())]
    methods = list(fitted.values())
    notes += [counted(methods.count(m), "layer", f"fitted by {m}") for m in sorted(set(methods))]
    if apart is not None:
        notes.append(f"outputs diverge by {apart:.3f} on samples that nothing was fitted to")
    return notes


def prunes(steps: Sequence[Pass]) -> bool:
    """Whether some pass will remove units."""
    return any(
        isinstance(step, PruneChannels) and bool(step.to or step.widths or step.branches)
        for step in steps
    )
