"""What is trained of a graph, as parameters of torch, and the way back into the graph."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt.errors import ModelError
from graphopt.ir import Tensor as Stored
from graphopt_torch.quantization.bias_scales import bias_scales
from graphopt_torch.quantization.float_reference import float_weights
from graphopt_torch.quantization.latents import BiasLatent, FloatLatent, IntegerLatent
from graphopt_torch.quantization.learned_scales import learned_families
from graphopt_torch.quantization.roles import trainable_floats
from graphopt_torch.quantization.scale_families import ScaleFamilies
from graphopt_torch.quantization.stored_integers import stored_integers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from graphopt.ir import Graph
    from graphopt_torch.execution import Program
    from graphopt_torch.quantization.bias_scales import BiasScale
    from graphopt_torch.quantization.roles import Role
    from graphopt_torch.quantization.scales import LearnedFamily
    from graphopt_torch.quantization.stored_integers import StoredIntegers

    Array = np.ndarray[Any, Any]

Tensor = torch.Tensor
Parameter = torch.nn.Parameter
GROUPS = ("weights", "biases", "norms", "weight scales", "activation scales")


class TrainableWeights:
    """The trained numbers of a graph: float constants, integer weights and biases, and scales.

    What may be trained is told by how it is used (``quantization.roles``). Float constants are
    parameters under their own names. Integer weights and biases are float parameters under the
    names of the integers, rounded to them in every step (fake quantization); their scales and those
    of activations are learned with them (LSQ), those of biases follow. Zero points stay.

    Nothing learned is nothing changed: ``write`` then leaves every byte of the graph.
    """

    def __init__(
        self,
        floats: Iterable[tuple[Role, FloatLatent]],
        latents: Iterable[IntegerLatent | BiasLatent],
        families: Iterable[tuple[bool, LearnedFamily]],
        derived: Iterable[BiasScale],
        constants: Mapping[str, Tensor],
    ) -> None:
        self._floats = list(floats)
        self._latents = list(latents)
        self._families = list(families)
        self._derived = list(derived)
        self._constants = constants

    @classmethod
    def of(
        cls,
        graph: Graph,
        program: Program,
        *,
        learn_scales: bool = True,
        exclude: Collection[str] = (),
        reference: Graph | None = None,
    ) -> TrainableWeights:
        """Find what can be trained.

        Args:
            graph: float, or with Q and DQ; not changed, and not kept.
            program: made of it; its device is that of the parameters.
            learn_scales: whether scales are parameters too.
            exclude: names of initializers that stay as they are.
            reference: the float graph before Q and DQ were inserted, where it is known: weights
                then start where they were before they were rounded.
        """
        device = str(next(iter(program.constants.values())).device) if program.constants else "cpu"
        facts = {
            f.name: f
            for f in stored_integers(graph)
            if f.name in program.constants and f.name not in exclude
        }
        derived, fixed = bias_scales(graph)
        scales = {f.scale for f in facts.values()}
        biases = _scales_of_biases(facts.values())
        for one in derived:
            if one.name not in biases:  # integers that stay mean something else at another scale
                fixed |= {one.source, one.weight}
        families = ScaleFamilies(graph)
        families.fix({*fixed, *exclude, *(d.name for d in derived), *biases})
        learned = learned_families(graph, families, facts, device) if learn_scales else []
        weights = float_weights(graph, reference, facts)
        constants = program.constants
        return cls(
            [
                (role, _float(graph, name, role, device))
                for name, role in trainable_floats(graph).items()
                if name in constants and name not in scales and name not in exclude
            ],
            [
                BiasLatent(f, device)
                if _is_bias(f)
                else IntegerLatent(f, weights.get(f.name), device)
                for f in facts.values()
            ],
            learned,
            derived,
            constants,
        )

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """All parameters by the name of what they are stored as; scales by their first name."""
        found = {held.name: held.parameter for _, held in self._floats}
        found |= {latent.name: latent.parameter for latent in self._latents}
        found |= {family.names[0]: family.parameter for _, family in self._families}
        return MappingProxyType(found)

    def groups(self) -> dict[str, list[Parameter]]:
        """Return the parameters by kind: see ``GROUPS``; every kind is there, empty or not."""
        found: dict[str, list[Parameter]] = {name: [] for name in GROUPS}
        for role, held in self._floats:
            found[role].append(held.parameter)
        for latent in self._latents:
            role = "biases" if _is_bias(latent.facts) else latent.facts.role
            found[role].append(latent.parameter)
        for of_weights, family in self._families:
            found["weight scales" if of_weights else "activation scales"].append(family.parameter)
        return found

    def values(self) -> dict[str, Tensor]:
        """Return what ``Program.run`` takes in the place of constants; differentiable."""
        scales = self._scales()
        found = {held.name: held.value() for _, held in self._floats}
        for latent in self._latents:
            found |= latent.values(self._scale(latent.facts.scale, scales))
        return found | {n: s for n, s in scales.items() if n in self._constants}

    def state(self) -> dict[str, Array]:
        """Return copies of all parameters by name, to go on from later."""
        return {n: p.detach().cpu().numpy().copy() for n, p in self.parameters.items()}

    def load(self, state: Mapping[str, Array]) -> None:
        """Take parameters over from ``state()`` of the same graph.

        Raises:
            ModelError: G205, it is the state of another graph.
        """
        mine = self.parameters
        fits = state.keys() == mine.keys() and all(
            tuple(np.shape(state[n])) == tuple(p.shape) for n, p in mine.items()
        )
        if not fits:
            raise ModelError(
                "the parameters that were kept are those of another graph", code="G205"
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(torch.from_numpy(np.array(state[name])))

    @torch.no_grad()
    def write(self, graph: Graph) -> int:
        """Store what was learned in the initializers of the graph; nothing else changes.

        Args:
            graph: the one that this was made of, or a copy.

        Returns:
            How many initializers have other bytes than before.
        """
        scales = self._scales()
        changed = 0
        for _, held in self._floats:
            changed += _store(graph, held.name, held.array())
        for latent in self._latents:
            integers = latent.array(self._scale(latent.facts.scale, scales))
            changed += _store_integers(graph, latent.facts, integers)
        for name, scale in scales.items():
            changed += _store(graph, name, scale.cpu().numpy())
        return changed

    def _scales(self) -> dict[str, Tensor]:
        """Return the scales that are learned, or follow from such."""
        found: dict[str, Tensor] = {}
        for _, family in self._families:
            found |= family.values()
        for derived in self._derived:
            if derived.source in found or derived.weight in found:
                found[derived.name] = derived.value(lambda name: self._scale(name, found))
        return found

    def _scale(self, name: str, learned: Mapping[str, Tensor]) -> Tensor:
        found = learned.get(name)
        return (self._constants[name] if found is None else found).float()


def _is_bias(facts: StoredIntegers) -> bool:
    return facts.high > np.iinfo(np.int16).max


def _scales_of_biases(facts: Iterable[StoredIntegers]) -> set[str]:
    """Return the scales of integers of 32 bits: no kernel reads them but as those of its sums."""
    return {f.scale for f in facts if _is_bias(f)}


def _float(graph: Graph, name: str, role: Role, device: str) -> FloatLatent:
    stored = graph.value(name).tensor
    assert stored is not None
    return FloatLatent(name, stored, keep_zeros=role == "weights", device=device)


def _store(graph: Graph, name: str, array: Array) -> bool:
    value = graph.value(name)
    old = value.stored
    assert old is not None
    wanted = array.astype(old.array().dtype, copy=False).reshape(old.shape)
    if wanted.tobytes() == old.array().tobytes():
        return False
    graph.set_tensor(value, Stored.from_array(wanted, old.dtype))
    return True


def _store_integers(graph: Graph, facts: StoredIntegers, integers: Array) -> bool:
    value = graph.value(facts.name)
    old = value.stored
    assert old is not None
    made = facts.tensor(integers, old)
    if np.array_equal(made.array(), old.array()):
        return False
    graph.set_tensor(value, made)
    return True
