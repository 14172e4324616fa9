"""The shipped targets: names, aliases, rules, and a source for every figure."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest

from graphopt.targets import builtin_targets, inheritance
from graphopt.targets.base import evidence
from graphopt.targets.builtin import graphopt_register_targets
from graphopt.targets.fusion import fusion_table

PROMISED = """
x86-avx2 x86-avx-vnni x86-avx512 x86-avx512-vnni x86-icelake x86-zen4 x86-amx
arm64-neon arm64-dotprod arm64-i8mm cortex-a53 cortex-a55 cortex-a72 cortex-a76 cortex-a78
cortex-a710 cortex-a715 cortex-a720 cortex-x1 cortex-x2 cortex-x3 cortex-x4
apple-m1 apple-m2 apple-m4 neoverse-n1 neoverse-v1 neoverse-v2
cortex-m0plus cortex-m4 cortex-m33 cortex-m7 cortex-m55 cortex-m85 esp32-s3 ethos-u55
jetson-orin-nano jetson-agx-orin nvidia-t4 nvidia-a100 nvidia-h100 nvidia-h200
intel-npu qualcomm-htp wasm
"""
TARGETS = {target.name: target for target in builtin_targets()}
ALIASES = {alias: target.name for target in TARGETS.values() for alias in target.aliases}


def test_the_promised_targets_are_there():
    assert set(TARGETS) == set(PROMISED.split())


def test_aliases_mean_the_safe_member_of_the_family():
    families = {"arm": "arm64-dotprod", "x86": "x86-avx2", "mcu": "cortex-m7"}
    assert families.items() <= ALIASES.items()
    assert ALIASES["raspberry-pi-4"] == "cortex-a72"
    assert ALIASES["cortex-m0+"] == "cortex-m0plus"


def test_no_name_is_taken_twice():
    names = [*TARGETS, *(alias for t in TARGETS.values() for alias in t.aliases)]
    assert len(names) == len(set(names))


def test_the_hook_returns_them_and_the_host():
    names = [target.name for target in graphopt_register_targets()]
    assert sorted(names) == sorted([*TARGETS, "host"])


@pytest.mark.parametrize("name", TARGETS)
def test_every_figure_has_a_source(name):
    target = TARGETS[name]
    fields = {"quantization"}
    for section in ("compute", "memory", "energy"):
        held = getattr(target, section)
        for field in dataclasses.fields(held) if held is not None else ():
            # Cores are a fact of the part; what is empty or None states nothing.
            if field.name not in {"cores", "measured"} and getattr(held, field.name):
                fields.add(f"{section}.{field.name}")
    if target.quantization.expected_gain:
        fields.add("quantization.expected_gain")
    for field in sorted(fields):
        covered = [key for key in target.sources if key == field or field.startswith(f"{key}.")]
        covered += [key for key in target.sources if key.startswith(f"{field}.")]
        assert covered, f"{name}: no source for {field}"


@pytest.mark.parametrize("name", TARGETS)
def test_sources_name_real_fields(name):
    target = TARGETS[name]
    for key in target.sources:
        held: object = target
        parts = key.split(".")
        while parts:
            if isinstance(held, dict):  # keys of tables have dots in them: float32.conv
                held, parts = held[".".join(parts)], []
            else:
                held = getattr(held, parts.pop(0))


@pytest.mark.parametrize("name", TARGETS)
def test_every_source_says_what_it_is(name):
    for key, text in TARGETS[name].sources.items():
        assert "names no source" not in text, key
        if evidence(text) == "published":
            own = text.rpartition(": published")[2] if ": published" in text else text
            assert len(own.split()) > 3, f"{key}: which document?"


@pytest.mark.parametrize("name", TARGETS)
def test_a_figure_of_its_own_has_a_source_of_its_own(name):
    # What a file changes must not be explained by what its base says about another figure.
    target = TARGETS[name]
    for key, text in target.sources.items():
        if key.startswith("compute.frequency_ghz") and text.startswith("arm64"):
            base = TARGETS[text.partition(":")[0]]
            assert target.compute.frequency_ghz == base.compute.frequency_ghz


def test_what_was_never_run_says_so():
    priced = {name for name, t in TARGETS.items() if t.prices_only}
    assert priced == {name for name, t in TARGETS.items() if t.family in {"NVIDIA GPUs", "NPUs"}}
    assert all(TARGETS[name].uncertainty >= 0.8 for name in priced)


@pytest.mark.parametrize("name", TARGETS)
def test_expected_gains_agree_with_what_estimates_are_made_of(name):
    # Two accounts of one thing, from different sources for most targets: within a factor of 1.6.
    compute, gains = TARGETS[name].compute, TARGETS[name].quantization.expected_gain
    if TARGETS[name].prices_only or TARGETS[name].family in {"Microcontrollers", "Browser"}:
        return  # on microcontrollers int8 and float come from different software
    if name == "x86-amx":
        return  # only its matrix products use the tiles

    def rate(dtype, kind):
        found = compute.efficiency
        share = found.get(f"{dtype}.{kind}", found.get(f"{dtype}.default", 1.0))
        return share * compute.macs_per_cycle[dtype]

    for kind, gain in gains.items():
        assert 1 / 1.6 <= rate("int8", kind) / rate("float32", kind) / gain <= 1.6, kind


def test_gain_grows_with_the_instruction_set():
    neon, dot, matrix = (TARGETS[f"arm64-{n}"] for n in ("neon", "dotprod", "i8mm"))
    for kind in ("conv", "pointwise", "gemm", "gemv"):
        gains = [t.quantization.expected_gain[kind] for t in (neon, dot, matrix)]
        assert gains == sorted(gains)
    assert neon.quantization.expected_gain["pointwise"] < 1
    assert TARGETS["wasm"].quantization.expected_gain["default"] < 1


def test_bases_are_shipped_and_nothing_is_stated_twice():
    for path in sorted(inheritance.DATA.glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        assert table["name"] == path.stem
        if "base" in table:
            assert table["base"] in TARGETS
            assert "runtime" not in table


@pytest.mark.parametrize("name", TARGETS)
def test_the_fusion_table_exists(name):
    assert fusion_table(TARGETS[name].runtime).rules


def test_quantization_follows_the_kernels_of_each_family():
    for name, target in TARGETS.items():
        rules = target.quantization
        assert rules.weights == "int8"
        assert rules.per_channel
        if target.family in {"64-bit Arm", "Microcontrollers", "NVIDIA GPUs"}:
            assert rules.activations == "int8"
            # CMSIS-NN and TensorRT want zero at 0; onnxruntime's Arm kernels take any zero point.
            assert rules.symmetric_activations == (target.family != "64-bit Arm")
            assert target.session_config == {"session.qdqisint8allowed": "1"}
        elif name != "ethos-u55":
            assert rules.activations == "uint8"
            assert target.session_config == {}
    saturating = {n for n, t in TARGETS.items() if t.quantization.saturates}
    assert saturating == {"x86-avx2", "x86-avx512"}


def test_only_what_has_no_memory_to_spare_has_limits():
    limited = {n for n, t in TARGETS.items() if t.memory.ram_limit_bytes is not None}
    small = {n for n, t in TARGETS.items() if t.family == "Microcontrollers"}
    assert limited == small | {"ethos-u55"}
    assert all(TARGETS[n].memory.storage_limit_bytes for n in limited)


def test_joules_are_only_told_where_a_board_was_measured():
    measured = {n for n, t in TARGETS.items() if t.energy is not None and t.energy.measured}
    assert measured == {"cortex-m4", "cortex-m7", "cortex-m33"}
    for name in measured:
        assert evidence(TARGETS[name].sources["energy.active_watts"]) == "measured"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("measured on a board", "measured"),
        ("arm64-neon: MACs per instruction counted", "measured"),
        ("x86-zen4: x86-avx512-vnni: measured on", "measured"),
        ("assumed: as measured on x86", "assumed"),
        ("published: a data sheet of somebody", "published"),
        ("x86-avx2: onnxruntime source: blocks", "published"),
        ("published, not verified here: Zen 4", "unverified"),
        ("my-board.toml, which names no source", "assumed"),
    ],
)
def test_evidence_is_read_from_the_first_words(text, kind):
    assert evidence(text) == kind
