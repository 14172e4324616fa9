"""Which built-in target this machine, or a machine that is described, is treated as."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from graphopt.targets import builtin_targets, host, host_target


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("avx2 fma avx512f avx512_vnni", "x86_64", "x86-avx512-vnni"),
        ("avx2 fma avx_vnni", "AMD64", "x86-avx-vnni"),
        ("avx2 fma", "x86_64", "x86-avx2"),
        ("", "riscv64", "x86-avx2"),
        ("fp asimd", "aarch64", "arm64-neon"),
        ("fp asimd asimddp", "aarch64", "arm64-dotprod"),
        ("fp asimd asimddp i8mm bf16", "arm64", "arm64-i8mm"),
    ],
)
def test_base_is_the_best_instruction_set(flags, machine, expected):
    assert host.base_for(flags.split(), machine) == expected


def test_cpuinfo_of_both_families_is_understood():
    x86 = "processor : 0\nmodel name : Some CPU\ncpu MHz : 2500.5\nflags : avx2 fma\n\nflags : x\n"
    assert host.parse_cpuinfo(x86) == {"flags": "avx2 fma", "model": "Some CPU", "mhz": "2500.5"}
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n"
    assert host.parse_cpuinfo(arm) == {"flags": "fp asimd asimddp", "model": "", "mhz": ""}
    assert host.parse_cpuinfo("") == {"flags": "", "model": "", "mhz": ""}


def test_the_host_is_a_target_of_its_own():
    found = host_target()
    assert found is host_target()
    assert found.name == "host"
    assert found.is_host
    assert found.aliases == ()
    assert found.compute.cores >= 1
    assert any(found.isa == target.isa for target in builtin_targets())
    assert found.sources["compute.cores"] == "read from this machine"


@pytest.fixture
def described(monkeypatch):
    """Return a function that detects a machine whose files say what is given."""

    def run(files: dict[str, str], machine: str, system: str = "Linux"):
        def read_text(path: Path, *_: object, **__: object) -> str:
            if str(path) in files:
                return files[str(path)]
            raise FileNotFoundError(str(path))

        builtin_targets()  # the target files are read before reading is replaced
        monkeypatch.setattr(Path, "read_text", read_text)
        monkeypatch.setattr(host.platform, "machine", lambda: machine)
        monkeypatch.setattr(host.platform, "system", lambda: system)
        return host_target.__wrapped__()

    return run


CPUINFO = "/proc/cpuinfo"
LIMIT = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"


def test_clock_is_the_highest_one_that_the_kernel_names(described):
    found = described({CPUINFO: "Features : asimd asimddp\n", LIMIT: "2400000\n"}, "aarch64")
    assert found.compute.frequency_ghz == 2.4
    assert found.sources["compute.frequency_ghz"] == "read from this machine"


def test_clock_of_cpuinfo_serves_where_there_is_no_other(described):
    found = described({CPUINFO: "flags : avx2\ncpu MHz : 3100.0\n"}, "x86_64")
    assert found.compute.frequency_ghz == 3.1


def test_clock_inside_a_virtual_machine_is_not_believed(described):
    found = described({CPUINFO: "flags : avx2 hypervisor\ncpu MHz : 2596.1\n"}, "x86_64")
    assert found.compute.frequency_ghz == 3.5
    assert "x86-avx2" in found.sources["compute.frequency_ghz"]


def test_macos_is_asked_through_sysctl(described, monkeypatch):
    answers = {"hw.optional.arm.FEAT_DotProd": "1", "machdep.cpu.brand_string": "Apple M1"}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, stdout=answers.get(command[-1], "0") + "\n")

    monkeypatch.setattr(host.subprocess, "run", run)
    found = described({}, "arm64", "Darwin")
    assert "Apple M1" in found.summary
    assert "arm64-dotprod" in found.summary


def test_a_machine_that_tells_nothing_is_the_careful_x86(described, monkeypatch):
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(host.subprocess, "run", run)
    assert "x86-avx2" in described({}, "x86_64", "Darwin").summary
    assert "x86-avx2" in described({}, "x86_64", "Windows").summary
