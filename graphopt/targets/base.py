"""A target: facts about one kind of hardware and the runtime on it, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from graphopt.targets.profile import DeviceProfile  # noqa: TC001 - cattrs resolves it

IntegerType = Literal["int8", "uint8"]
ActivationType = Literal["int8", "uint8", "int16", "uint16"]


@dataclass(frozen=True)
class QuantizationRules:
    """How integers must look on this target to be executed as integers.

    Args:
        activations: element type of quantized activations; 16-bit ones need opset 21.
        weights: element type of quantized weights; always symmetric, zero point 0.
        per_channel: one weight scale per output channel.
        symmetric_activations: zero point 0 for tensors that have negative values. Tensors that are
            never negative use the full range in any case, so that Relu costs nothing.
        saturates: products of u8 and s8 pairs saturate at 16 bits (no VNNI); weights whose
            neighbours could overflow together get coarser steps.
        input_block: channels that the fast integer convolution takes at once.
        output_block: channels that it makes at once.
        output_minimum: fewest output channels that it makes.
        depthwise_block: channels that the fast depthwise convolution takes at once.
        expected_gain: time of a float32 kernel over that of the same kernel in int8, by kernel
            class; above 1 int8 is faster. An expectation to hold estimates against, not what they
            are made of.
    """

    activations: ActivationType = "uint8"
    weights: IntegerType = "int8"
    per_channel: bool = True
    symmetric_activations: bool = False
    saturates: bool = False
    input_block: int = 1
    output_block: int = 1
    output_minimum: int = 1
    depthwise_block: int = 1
    expected_gain: dict[str, float] = field(default_factory=dict)

    @property
    def is_wide(self) -> bool:
        """Whether activations have 16 bits."""
        return self.activations in {"int16", "uint16"}


@dataclass(frozen=True)
class Compute:
    """Peak arithmetic of one core.

    Args:
        frequency_ghz: sustained clock.
        cores: cores that the runtime may use.
        macs_per_cycle: multiply-accumulates per cycle and core, by dtype: float32, float16,
            bfloat16, int8.
        efficiency: fraction of the peak that a kernel class reaches on large shapes, by
            "dtype.class", such as "int8.depthwise"; "float32.default" where it is not listed.
        alignment: channels are processed in blocks of this many, by dtype.
        reduction_half: length of the sum behind one output at which a kernel reaches half of its
            peak, by dtype: the cost of requantizing an output, spread over its products.
        layouts: memory layout of convolutions by dtype: "plain" (as in the file), "blocked" or
            "channels_last"; where the layout changes, a copy is made.
        dispatch_us: fixed cost of starting one kernel.
        run_us: fixed cost of one inference, whatever the model.
    """

    frequency_ghz: float
    cores: int
    macs_per_cycle: dict[str, float]
    efficiency: dict[str, float]
    alignment: dict[str, int] = field(default_factory=dict)
    reduction_half: dict[str, float] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)
    dispatch_us: float = 1.0
    run_us: float = 0.0


@dataclass(frozen=True)
class Memory:
    """Memory levels: sizes in bytes, bandwidths in GB/s (1e9); None is no limit.

    Args:
        cache_bytes: last cache level that a model on one core can expect to stay in.
        cache_gb_s: bandwidth out of that cache.
        dram_gb_s: usable bandwidth of main memory (flash, on a microcontroller).
        ram_limit_bytes: what activations may take.
        storage_limit_bytes: what weights and graph may take.
        levels_bytes: size of each data cache that one core can use, the nearest first; empty where
            there is none.
    """

    cache_bytes: int
    cache_gb_s: float
    dram_gb_s: float
    ram_limit_bytes: int | None = None
    storage_limit_bytes: int | None = None
    levels_bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Energy:
    """Energy model: E = active_watts * t + sum of pj_per_mac * products + dram_pj_per_byte * bytes.

    Args:
        active_watts: what the part draws while it computes, whatever it computes.
        dram_pj_per_byte: picojoules per byte of main memory.
        measured: active_watts was measured on a board. Only then are joules reported; otherwise
            the constants serve to compare two models, as a ratio.
        pj_per_mac: picojoules per multiply-accumulate on top, by dtype, all that a core does for
            one included.
    """

    active_watts: float
    dram_pj_per_byte: float = 0.0
    measured: bool = False
    pj_per_mac: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One kind of hardware together with the runtime that executes models on it.

    Args:
        name: unique name, kebab-case.
        summary: one line for ``graphopt targets``.
        runtime: name of the fusion table that says what is executed in integer; or, in a target
            file, the path of one beside it, ending in ``.toml``.
        provider: onnxruntime execution provider; empty where onnxruntime does not run there.
        provider_options: what the provider is opened with; ``{threads}`` stands for their number.
        session_config: onnxruntime session entries with which any host fuses as this target does.
        cost_model: name of the cost model that prices graphs for it.
        uncertainty: half width of the latency interval, relative (0.4 means 40 %).
        sources: where each figure comes from, by dotted field name.
        family: heading under which ``graphopt targets`` lists it.
        prices_only: nothing that was compiled for it has ever been executed; it is for estimates.
        profile: what was measured on the device; attached by ``graphopt profile``'s files, never
            stated in a target file.
    """

    name: str
    summary: str
    runtime: str
    provider: str
    isa: tuple[str, ...]
    quantization: QuantizationRules
    compute: Compute
    memory: Memory
    uncertainty: float
    sources: dict[str, str]
    energy: Energy | None = None
    aliases: tuple[str, ...] = ()
    session_config: dict[str, str] = field(default_factory=dict)
    provider_options: dict[str, str] = field(default_factory=dict)
    cost_model: str = "roofline"
    is_host: bool = False
    family: str = "other"
    prices_only: bool = False
    profile: DeviceProfile | None = None

    @property
    def runs_onnxruntime(self) -> bool:
        """Whether models may use onnxruntime's own operators: its own kernels run them there.

        Other providers compile a model into something else, and know few of them or none.
        """
        return self.provider == "CPUExecutionProvider"


Evidence = Literal["measured", "published", "unverified", "assumed"]
_MEASURED = ("measured", "MLPerf Tiny v1.2", "MACs per instruction", "read from this machine")
_PUBLISHED = ("published: ", "optimized graphs of", "onnxruntime source", "onnxruntime's")


def evidence(source: str) -> Evidence:
    """Return what kind of evidence a source is, by the words that it starts with.

    ``published`` is a document that was looked up, ``unverified`` a figure from memory of one.
    What is inherited starts with the name of the target that it is from.
    """
    head, colon, rest = source.partition(": ")
    if colon and head not in {"assumed", "published"} and " " not in head:
        return evidence(rest)
    if source.startswith(_MEASURED):
        return "measured"
    if source.startswith(_PUBLISHED):
        return "published"
    return "unverified" if source.startswith("published, not verified here") else "assumed"
