"""The shipped targets: names, aliases, rules, and a source for every figure."""

from __future__ import annotations

import dataclasses

import pytest

from graphopt.targets import builtin_targets
from graphopt.targets.builtin import graphopt_register_targets
from graphopt.targets.fusion import fusion_table

TARGETS = {target.name: target for target in builtin_targets()}
ALIASES = {alias: target.name for target in TARGETS.values() for alias in target.aliases}


def test_the_promised_targets_are_there():
    assert set(TARGETS) >= {
        "x86-avx2",
        "x86-avx512-vnni",
        "arm64-neon",
        "arm64-dotprod",
        "arm64-i8mm",
        "cortex-m4",
        "cortex-m7",
        "wasm",
    }


def test_aliases_mean_the_safe_member_of_the_family():
    assert ALIASES == {"arm": "arm64-dotprod", "x86": "x86-avx2", "mcu": "cortex-m7"}


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
    for field in sorted(fields):
        covered = [key for key in target.sources if key == field or field.startswith(f"{key}.")]
        covered += [key for key in target.sources if key.startswith(f"{field}.")]
        assert covered, f"{name}: no source for {field}"


@pytest.mark.parametrize("name", TARGETS)
def test_sources_name_real_fields(name):
    target = TARGETS[name]
    for key in target.sources:
        held: object = target
        for part in key.split("."):
            held = held[part] if isinstance(held, dict) else getattr(held, part)


@pytest.mark.parametrize("name", TARGETS)
def test_published_peaks_say_that_nobody_verified_them(name):
    keys = {key: text for key, text in TARGETS[name].sources.items() if "macs_per_cycle" in key}
    for text in keys.values():
        assert "not verified here" in text or text.startswith(("assumed", "one per cycle"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_fusion_table_exists(name):
    assert fusion_table(TARGETS[name].runtime).rules


def test_quantization_follows_the_kernels_of_each_family():
    for name, target in TARGETS.items():
        rules = target.quantization
        assert rules.weights == "int8"
        assert rules.per_channel
        if name.startswith(("arm", "cortex")):
            assert rules.activations == "int8"
            # CMSIS-NN wants zero at 0; onnxruntime's Arm kernels take any zero point.
            assert rules.symmetric_activations == name.startswith("cortex")
            assert target.session_config == {"session.qdqisint8allowed": "1"}
        else:
            assert rules.activations == "uint8"
            assert target.session_config == {}
    assert [n for n, t in TARGETS.items() if t.quantization.saturates] == ["x86-avx2"]


def test_only_microcontrollers_have_limits_and_energy():
    limited = {n for n, t in TARGETS.items() if t.memory.ram_limit_bytes is not None}
    assert limited == {n for n, t in TARGETS.items() if t.energy is not None}
    assert limited == {"cortex-m4", "cortex-m7"}
