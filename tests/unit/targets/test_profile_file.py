"""Profiles as files: the same back, small, and refused with a place when something is wrong."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.errors import TargetError
from graphopt.targets import builtin_targets, host_target, read_target
from graphopt.targets.profile import DeviceProfile, KernelCurve
from graphopt.targets.profile_file import profile_json, read_profile, with_profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROFILE = DeviceProfile(
    device="Cortex-A76, invented",
    base="arm64-dotprod",
    runtime="onnxruntime 1.23.0",
    threads=1,
    governor="performance",
    curves={
        "float32.Conv": KernelCurve({"call": 1.5, "macs": 2e-5}, 0.9, 1.2, 40),
        "int8.gemm": KernelCurve({"call": 1.0}, 0.7, 1.5, 12),
    },
    run_us=6.0,
    speedup={"4": 3.1},
    grain_us=20.0,
    low=0.95,
    high=1.1,
    notes=("invented",),
    digest="d" * 64,
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        table = json.loads(profile_json(PROFILE))
        change(table)
        path = tmp_path / "my-device.json"
        path.write_text(json.dumps(table))
        return path

    return write


def test_a_profile_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(profile_json(PROFILE))
    assert read_profile(path) == PROFILE
    assert profile_json(read_profile(path)) == path.read_bytes()


def test_a_profile_is_a_target_with_the_rules_of_its_base(written: Callable[..., Path]) -> None:
    target = read_target(written())
    base = next(t for t in builtin_targets() if t.name == "arm64-dotprod")
    assert target.name == "my-device"
    assert target.profile == PROFILE
    assert target.cost_model == "profiled"
    assert (target.quantization, target.compute, target.isa) == (
        base.quantization, base.compute, base.isa,
    )  # fmt: skip
    assert target.uncertainty == pytest.approx(0.1)
    assert "Cortex-A76" in target.summary
    assert target.sources["profile"].startswith("measured: ")
    assert not target.is_host
    assert target.aliases == ()


def test_the_host_keeps_its_name_with_a_profile() -> None:
    target = with_profile(host_target(), PROFILE, "here")
    assert target.name == "host"
    assert target.is_host
    assert host_target().profile is None


def _refusal(path: Path) -> TargetError:
    with pytest.raises(TargetError) as caught:
        read_target(path)
    assert caught.value.code == "G502"
    assert str(caught.value.where).startswith(str(path))
    assert caught.value.hint
    return caught.value


def _set(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(table: dict[str, Any]) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_set("colour", value=1), "colour"),
        (_set("curves", "float32.Conv", "colour", value=1), "curves.float32.Conv.colour"),
        (_set("threads", value="1"), "threads"),
        (_set("threads", value=0), "threads"),
        (_set("run_us", value=-1.0), "run_us"),
        (_set("low", value=1.5), "low"),
        (_set("high", value=0.5), "high"),
        (_set("schema", value=2), "schema"),
        (_set("base", value="arm65"), "base"),
        (_set("base", value="host"), "base"),
        (_set("curves", "float32.Conv", "terms", "macs", value=-1e-9), "terms.macs"),
        (_set("curves", "float32.Conv", "low", value=2), "curves.float32.Conv.low"),
        (_set("curves", value=[]), "curves"),
        (_set("curves", "float32.Conv", value=3), "curves"),
        (_set("notes", value=["x" * 600]), ""),
        (_set("speedup", value={"4": 0.0}), "speedup.4"),
    ],
)
def test_what_is_wrong_is_named(
    written: Callable[..., Path], change: Callable[[dict[str, Any]], None], place: str
) -> None:
    error = _refusal(written(change))
    assert place in f"{error.where} {error.message}"


def test_what_is_missing_is_named(written: Callable[..., Path]) -> None:
    assert "runtime" in _refusal(written(lambda t: t.pop("runtime"))).message


def test_infinity_is_no_number(written: Callable[..., Path]) -> None:
    path = written()
    path.write_text(path.read_text().replace('"run_us": 6.0', '"run_us": Infinity'))
    assert "run_us" in _refusal(path).message


@pytest.mark.parametrize("text", ["", "[]", "{", '"profile"', "[" * 100_000])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    _refusal(path)


def test_measurements_are_told_from_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"graphopt_measurements": 1}\n')
    error = _refusal(path)
    assert "not yet a profile" in error.message
    assert "graphopt profile --from" in str(error.hint)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as stream:
        stream.truncate(2 << 20)
    assert "larger than" in _refusal(path).message


def test_a_target_file_cannot_state_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('base = "arm64-neon"\nname = "mine"\nsummary = "s"\n\n[profile]\nthreads = 1\n')
    with pytest.raises(TargetError, match="no key `profile`"):
        read_target(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([f.name for f in dataclasses.fields(DeviceProfile)]), _JSON)
def test_no_content_raises_anything_but_our_error(
    written: Callable[..., Path], key: str, value: Any
) -> None:
    code = "G502"
    try:
        read_profile(written(_set(key, value=value)))
    except TargetError as error:
        code = error.code
    assert code == "G502"
