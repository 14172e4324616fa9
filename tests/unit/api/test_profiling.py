"""`graphopt profile` as an API: from a measurement to a target, here and from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

import graphopt
from graphopt import api
from graphopt.api import host_profile
from graphopt.api.setup import find_target
from graphopt.cost import fitting
from graphopt.cost.profiling import Measurements, bundle
from graphopt.cost.profiling.catalogue import micro_models
from graphopt.cost.profiling.nets import Net
from graphopt.errors import GraphOptError, TargetError
from graphopt.registry import Registry
from graphopt.targets import host_target
from graphopt.targets.profile import DeviceProfile, KernelCurve
from graphopt.targets.profile_file import profile_json, read_profile

if TYPE_CHECKING:
    from pathlib import Path

MADE = DeviceProfile(
    device="invented", base="x86-avx2", runtime="onnxruntime 1.31.1", threads=1, governor="",
    curves={"float32.elementwise": KernelCurve({"call": 1.0})},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    micro = next(m for m in micro_models() if m.name == "Sigmoid/float32/0")
    few = (
        bundle.Job(micro.name, micro, (1, 4)),
        bundle.Job("net/ds-cnn/float32", Net("ds-cnn", "float32")),
    )
    monkeypatch.setattr(bundle, "jobs", lambda: few)
    monkeypatch.setattr("graphopt.cost.profiling.join.jobs", lambda: few)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[Measurements]:
    """Replace the fit by one that only remembers what it was given."""
    given: list[Measurements] = []

    def fit(measured: Measurements) -> DeviceProfile:
        given.append(measured)
        return dataclasses.replace(MADE, base=measured.base, notes=measured.notes)

    monkeypatch.setattr(fitting, "fit", fit)
    return given


def test_this_machine_is_measured_and_host_uses_it(fitted: list[Measurements]) -> None:
    assert find_target("host", Registry()).profile is None
    result = api.profile(minutes=0.05, threads=1)
    assert result.kept
    assert result.path is None
    assert result.kernels > 0
    assert result.models == 1
    assert {row.signature.kernel for row in fitted[0].rows} >= {"Sigmoid"}
    target = find_target("host", Registry())
    assert target.profile == result.profile
    assert target.cost_model == "profiled"
    assert host_target().profile is None, "only what is asked for by name"
    kept = host_profile.host_profile_path()
    assert kept is not None
    assert [path.name for path in kept.parent.iterdir()] == [kept.name], "no results are left"


def test_a_profile_of_this_machine_may_be_written_too(
    fitted: list[Measurements], tmp_path: Path
) -> None:
    output = tmp_path / "mine.json"
    result = api.profile(output=output, minutes=0.03, threads=1)
    assert fitted
    assert result.path == output
    assert result.kept
    assert read_profile(output) == result.profile
    assert find_target(str(output), Registry()).name == "mine"


def test_without_a_cache_a_file_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", "")
    with pytest.raises(GraphOptError, match="no cache folder") as caught:
        api.profile()
    assert caught.value.code == "G108"


def test_without_a_cache_the_file_is_all(
    fitted: list[Measurements], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", "")
    result = api.profile(output=tmp_path / "mine.json", minutes=0.03, threads=1)
    assert fitted
    assert not result.kept
    assert find_target("host", Registry()).profile is None


def test_a_folder_that_is_missing_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="folder does not exist"):
        api.profile(output=tmp_path / "no" / "mine.json")


def test_a_kept_profile_that_is_damaged_is_as_good_as_none(fitted: list[Measurements]) -> None:
    path = host_profile.keep_host_profile(MADE)
    assert path is not None
    assert find_target("host", Registry()).profile == MADE
    path.write_text("{")
    assert find_target("host", Registry()).profile is None
    assert fitted == []


def test_another_runtime_has_another_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    host_profile.keep_host_profile(MADE)
    monkeypatch.setattr(host_profile, "versions", lambda: {"onnxruntime": "9.9"})
    assert host_profile.host_profile() is None


def test_other_targets_are_left_alone() -> None:
    host_profile.keep_host_profile(MADE)
    assert find_target("arm", Registry()).profile is None


def _measured_elsewhere(tmp_path: Path) -> Path:
    from graphopt.runtime.device import measure

    program, results = tmp_path / "device.pyz", tmp_path / "results.json"
    assert api.write_bundle(program) == program.stat().st_size
    arguments = [str(results), "--bundle", str(program), "--minutes", "0.03", "--quiet"]
    assert measure.main([*arguments, "--threads", "1"]) == 0
    return results


def test_results_of_a_device_become_a_target(fitted: list[Measurements], tmp_path: Path) -> None:
    results, output = _measured_elsewhere(tmp_path), tmp_path / "my-device.json"
    steps: list[tuple[str, int, int]] = []
    found = api.profile(source=results, output=output, step=lambda *step: steps.append(step))
    assert not found.kept
    assert found.threads == (1,)
    assert steps[-1] == ("reading kernels", 2, 2)
    assert fitted[0].device["runtime"].startswith("onnxruntime")
    assert read_profile(output).base == fitted[0].base
    assert api.profile(source=results, output=output, base="arm").profile.base == fitted[1].base


def test_results_need_a_file_to_go_to(tmp_path: Path) -> None:
    with pytest.raises(GraphOptError, match="needs a file"):
        api.profile(source=tmp_path / "results.json")


def test_nothing_is_written_when_nothing_was_measured(tmp_path: Path) -> None:
    results, output = _measured_elsewhere(tmp_path), tmp_path / "my-device.json"
    head, *_ = results.read_text().splitlines()
    results.write_text(head + "\n")
    with pytest.raises(TargetError, match="not one kernel") as caught:
        api.profile(source=results, output=output)
    assert caught.value.code == "G504"
    assert not output.exists()


def test_a_table_of_whole_models_needs_a_base(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text("model,ms\n")
    with pytest.raises(GraphOptError, match="kind of device") as caught:
        api.profile(source=table, output=tmp_path / "x.json")
    assert caught.value.code == "G108"


def test_a_profile_is_accepted_wherever_a_target_is(tmp_path: Path, models: Path) -> None:
    path = tmp_path / "my-device.json"
    path.write_bytes(profile_json(dataclasses.replace(MADE, base="arm64-dotprod")))
    model = next(models.rglob("*.onnx"))
    estimate = graphopt.estimate(model, target=str(path))
    assert estimate.latency_ms.value > 0
    assert json.loads(path.read_text())["base"] == "arm64-dotprod"


def test_a_path_that_is_not_there_is_an_unknown_target() -> None:
    with pytest.raises(TargetError) as caught:
        find_target("./absent.json", Registry())
    assert caught.value.code == "G501"
