"""How much noise each quantized layer makes: alone, and with all the others before it.

One pass over the data runs two models side by side. In the first, the float model, every layer also
stands beside itself in its quantized form, reading the same float inputs: what it gives there,
against what the float layer gives, is its noise alone. The second is the quantized model: the same
tensor there has the noise of all the layers before it as well.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.analysis.reasons import Evidence, TensorUse, reason
from graphopt.analysis.saturation import adds_pairs
from graphopt.analysis.signal import CodeUse, Distribution, Noise
from graphopt.analysis.weights import WeightFacts, weight_facts
from graphopt.errors import ModelError
from graphopt.pipeline.layers import Layer, find_layers, graft
from graphopt.report import LayerSensitivity
from graphopt.runtime import IntermediateTensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.pipeline.layers import Port

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]
    Progress = Callable[[int], None]


_SAME_CAUSE_DB = 6.0
"""Of two layers that are about as bad, the one that writes what the other reads is to blame."""


class Sensitivity:
    """The quantized layers of one model, measured sample by sample.

    Args:
        reference: the float model.
        quantized: the same model, quantized; tensors that mean the same have the same name.
        saturates: whether the target adds products in 16 bits.
    """

    def __init__(self, reference: Graph, quantized: Graph, *, saturates: bool = False) -> None:
        self.reference = reference.copy()
        ir.infer_shapes(self.reference)
        self.layers = find_layers(self.reference, quantized)
        self.samples = 0
        self._saturates = saturates
        self._quantized = quantized
        self._alone: dict[str, Noise] = {}
        self._cumulative = {n.name: Noise(n.channel_axis) for n in self.layers}
        self._ports = {p.name: Distribution() for n in self.layers for p in _ports(n)}
        self._uses = {
            (p.name, p.codes): CodeUse(p.codes) for n in self.layers for p in _ports(n) if p.codes
        }
        returned = {v.name for v in quantized.outputs}
        tensors = [v.name for v in self.reference.outputs if v.dtype is not None]
        self._outputs = {name: Noise() for name in tensors if name in returned}

    def measure(self, feeds: Iterable[Feed], progress: Progress | None = None) -> None:
        """Take in samples; holds the tensors of one chunk of each model at a time."""
        models: tuple[IntermediateTensors, IntermediateTensors, dict[str, str]] | None = None
        for feed in feeds:
            models = models or self._opened(feed)
            self._add(feed, *models)
            self.samples += 1
            if progress is not None:
                progress(self.samples)

    def results(self) -> tuple[LayerSensitivity, ...]:
        """Return the layers, worst first; who writes a bad tensor comes before who reads it."""
        found = {layer.name: self._result(layer) for layer in self.layers}
        writer = {layer.reference.name: layer.name for layer in self.layers}
        rank = {name: result.worst_db for name, result in found.items()}
        for layer in reversed(self.layers):
            own = found[layer.name].worst_db
            for name in (writer.get(p.name) for p in layer.inputs):
                if name is not None and found[name].worst_db <= own + _SAME_CAUSE_DB:
                    rank[name] = min(rank[name], rank[layer.name])
        return tuple(sorted(found.values(), key=lambda f: rank[f.node]))

    def outputs(self) -> dict[str, float]:
        """Return the signal-to-noise ratio of each output of the quantized model, in dB."""
        return {name: noise.snr_db for name, noise in self._outputs.items()}

    # -- one sample ------------------------------------------------------------------------

    def _opened(
        self, feed: Feed
    ) -> tuple[IntermediateTensors, IntermediateTensors, dict[str, str]]:
        """Return both models, ready to run; without the layers alone where they cannot run."""
        joined, alone = graft(self.reference, self.layers)
        second = IntermediateTensors(self._quantized, self._second_names())
        try:
            first = IntermediateTensors(joined, self._first_names(alone))
            next(iter(first.tensors(feed)), None)
        except ModelError:
            first, alone = IntermediateTensors(self.reference, self._first_names({})), {}
        self._alone = {n.name: Noise(n.channel_axis) for n in self.layers if n.name in alone}
        return first, second, alone

    def _first_names(self, alone: Mapping[str, str]) -> list[str]:
        names: dict[str, None] = {}
        for layer in self.layers:
            names |= dict.fromkeys(p.name for p in _ports(layer))
            names |= dict.fromkeys([alone[layer.name]] if layer.name in alone else [])
        return [*(names | dict.fromkeys(self._outputs))]

    def _second_names(self) -> list[str]:
        return [*(dict.fromkeys(n.result.name for n in self.layers) | dict.fromkeys(self._outputs))]

    def _add(
        self,
        feed: Feed,
        first: IntermediateTensors,
        second: IntermediateTensors,
        alone: Mapping[str, str],
    ) -> None:
        wanted: list[tuple[Noise, str, str, bool]] = []
        for layer in self.layers:
            name = layer.reference.name
            if layer.name in alone:
                wanted.append((self._alone[layer.name], name, alone[layer.name], True))
            wanted.append((self._cumulative[layer.name], name, layer.result.name, False))
        wanted += [(noise, name, name, False) for name, noise in self._outputs.items()]
        left = _Tensors(
            self._watched(first.tensors(feed)),
            Counter([r for _, r, _, _ in wanted] + [f for _, _, f, same in wanted if same]),
        )
        right = _Tensors(second.tensors(feed), Counter(f for _, _, f, same in wanted if not same))
        for noise, reference, found, same in wanted:
            noise.update(left.take(reference), (left if same else right).take(found))
        left.finish()

    def _watched(self, tensors: Iterator[tuple[str, Array]]) -> Iterator[tuple[str, Array]]:
        """Pass tensors on, taking note of the distribution of those that are quantized."""
        codes: dict[str, list[CodeUse]] = {}
        for (name, _), use in self._uses.items():
            codes.setdefault(name, []).append(use)
        for name, values in tensors:
            if name in self._ports and values.dtype.kind == "f":
                self._ports[name].update(values)
                for use in codes.get(name, []):
                    use.update(values)
            yield name, values

    # -- results ---------------------------------------------------------------------------

    def _result(self, layer: Layer) -> LayerSensitivity:
        alone = self._alone.get(layer.name)
        cumulative = self._cumulative[layer.name]
        weight = (
            weight_facts(
                layer.weight.array(), layer.weight_axis, layer.stored, pairs=adds_pairs(layer.node)
            )
            if layer.weight is not None
            else None
        )
        judged = alone if alone is not None else cumulative
        evidence = Evidence(
            judged.snr_db,
            judged.channel_snr_db,
            tuple(self._use(p) for p in layer.inputs),
            self._use(layer.output),
            weight,
            shares_scale=layer.stored is not None and layer.stored.axis is None,
            bias_overflows=layer.bias_overflows,
            saturates=self._saturates,
        )
        return LayerSensitivity(
            layer.name,
            layer.node.op,
            alone.snr_db if alone is not None else None,
            alone.channel_snr_db if alone is not None else None,
            cumulative.snr_db,
            cumulative.channel_snr_db,
            reason(evidence),
            _facts(evidence),
        )

    def _use(self, port: Port) -> TensorUse:
        use = self._uses.get((port.name, port.codes)) if port.codes is not None else None
        return TensorUse(port.name, self._ports[port.name], use)


class _Tensors:
    """Tensors that come in one order and are wanted in another; each is dropped after use."""

    def __init__(self, tensors: Iterator[tuple[str, Array]], uses: Counter[str]) -> None:
        self._tensors = tensors
        self._uses = uses
        self._held: dict[str, Array] = {}

    def take(self, name: str) -> Array:
        while name not in self._held:
            found, values = next(self._tensors)
            if self._uses[found]:
                self._held[found] = values
        self._uses[name] -= 1
        return self._held[name] if self._uses[name] else self._held.pop(name)

    def finish(self) -> None:
        """Let those pass by that are only watched."""
        for _ in self._tensors:
            continue


def _ports(layer: Layer) -> Sequence[Port]:
    return (*layer.inputs, layer.output)


def _facts(evidence: Evidence) -> dict[str, float]:
    facts: dict[str, float] = {}
    if evidence.weight is not None:
        facts |= _weight_facts(evidence.weight)
    ports = [("input", i) for i in evidence.inputs[:1]]
    ports += [("output", evidence.output)] if evidence.output is not None else []
    for what, port in ports:
        found = port.distribution
        facts[f"{what}_low"], facts[f"{what}_high"] = found.low, found.high
        facts[f"{what}_outlier_ratio"] = found.outlier_ratio
        facts[f"{what}_kurtosis"] = found.kurtosis
        if port.use is not None:
            facts[f"{what}_clipped"] = port.use.clipped
            facts[f"{what}_effective_bits"] = port.use.effective_bits
    facts["bias_overflows"] = float(evidence.bias_overflows)
    return {key: value for key, value in facts.items() if math.isfinite(value)}


def _weight_facts(weight: WeightFacts) -> dict[str, float]:
    known = {
        "weight_peak": weight.peak,
        "weight_outlier_ratio": weight.outlier_ratio,
        "weight_kurtosis": weight.kurtosis,
        "weight_channel_spread": weight.channel_spread,
        "weight_crest": weight.crest,
        "weight_saturating": weight.saturating,
        "weight_snr_db": weight.snr_db,
        "weight_effective_bits": weight.effective_bits,
    }
    return {key: value for key, value in known.items() if value is not None}
