"""Target files: what is read, and what every mistake in one says."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt.targets
from graphopt.errors import TargetError
from graphopt.targets import Target, builtin_targets, read_target

DATA = Path(graphopt.targets.__file__).with_name("data")
GOOD = (DATA / "cortex-m4.toml").read_text(encoding="utf-8")


@pytest.fixture
def fault(tmp_path):
    """Return a function: the error of the good file with one text replaced."""

    def run(old: str, new: str) -> TargetError:
        assert old in GOOD
        path = tmp_path / "mine.toml"
        path.write_text(GOOD.replace(old, new), encoding="utf-8")
        with pytest.raises(TargetError) as caught:
            read_target(path)
        assert caught.value.code == "G502"
        assert caught.value.where is not None
        assert caught.value.where.startswith(str(path))
        assert caught.value.hint
        return caught.value

    return run


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('"cortex-m4"', '"mine"'), encoding="utf-8")
    target = read_target(str(path))
    assert isinstance(target, Target)
    assert target.name == "mine"
    assert target.isa == ("armv7e-m", "dsp", "fpu")
    assert target.memory.ram_limit_bytes == 640 * 1024
    assert target.energy is not None
    assert target.energy.measured
    assert not target.is_host


def test_unknown_key_names_the_one_that_was_meant(fault):
    error = fault("uncertainty = 0.3", "uncertanty = 0.3")
    assert "uncertanty" in error.message
    assert "did you mean `uncertainty`?" in str(error.hint)


def test_unknown_key_in_a_section_is_named_with_the_section(fault):
    error = fault("ram_limit_bytes = 655360", "ram_limt_bytes = 655360")
    assert "`memory.ram_limt_bytes`" in error.message
    assert str(error.where).endswith("memory.ram_limt_bytes")
    assert "`ram_limit_bytes`" in str(error.hint)


def test_unknown_key_without_a_neighbour_lists_the_known_ones(fault):
    error = fault("cores = 1", "zzz = 1")
    assert "did you mean" not in str(error.hint)
    assert "frequency_ghz" in str(error.hint)


def test_missing_key_is_named(fault):
    assert "`dram_gb_s` is missing" in fault("dram_gb_s = 0.48\n", "").message


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("cores = 1", 'cores = "1"', "compute.cores"),
        ("cores = 1", "cores = 1.5", "compute.cores"),
        ("frequency_ghz = 0.12", "frequency_ghz = true", "compute.frequency_ghz"),
        ('name = "cortex-m4"', "name = 4", "name"),
        ("per_channel = true", "per_channel = 1", "quantization.per_channel"),
        ('activations = "int8"', 'activations = "int12"', "quantization.activations"),
        ('isa = ["armv7e-m", "dsp", "fpu"]', "isa = 3", "isa"),
    ],
)
def test_wrong_type_is_named_with_its_key(fault, old, new, key):
    error = fault(old, new)
    assert str(error.where).endswith(key)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("frequency_ghz = 0.12", "frequency_ghz = 0.0", "compute.frequency_ghz"),
        ("cache_gb_s = 0.48", "cache_gb_s = -1.0", "memory.cache_gb_s"),
        ("uncertainty = 0.3", "uncertainty = 30.0", "uncertainty"),
        ("float32 = 1.0\n", "", "compute.macs_per_cycle"),
        ('"int8.conv" = 0.', '"int8.conv" = -0.', "compute.efficiency.int8.conv"),
        ("gemv = 2.81", "gemv = 0.0", "quantization.expected_gain.gemv"),
        ("dram_gb_s = 0.48", "dram_gb_s = 0.48\nlevels_bytes = [0]", "memory.levels_bytes.0"),
        ("[memory]", '[compute.layouts]\nint8 = "nhwc"\n[memory]', "compute.layouts.int8"),
    ],
)
def test_wrong_range_is_named_with_its_key(fault, old, new, key):
    assert str(fault(old, new).where).endswith(key)


def test_section_must_be_a_table(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\ncompute = 3\n', encoding="utf-8")
    with pytest.raises(TargetError, match="must be a table"):
        read_target(path)


def test_broken_toml_and_missing_files_are_target_errors(tmp_path):
    path = tmp_path / "mine.toml"
    with pytest.raises(TargetError, match="cannot be read"):
        read_target(path)
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(TargetError, match="not valid TOML"):
        read_target(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="not valid TOML"):
        read_target(path)


def test_targets_are_read_once():
    assert builtin_targets() is builtin_targets()
