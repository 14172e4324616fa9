"""The program that is carried to devices: it stands alone, goes on, and writes what it saw."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphopt.cost.profiling import bundle
from graphopt.cost.profiling.catalogue import micro_models
from graphopt.cost.profiling.nets import Net
from graphopt.errors import TargetError
from graphopt.runtime import device
from graphopt.runtime.device import facts, measure, run, timing

ALLOWED = {"graphopt.runtime.device", "numpy", "onnxruntime"} | set(sys.stdlib_module_names)


def _jobs() -> list[bundle.Job]:
    micro = next(m for m in micro_models() if m.name == "depthwise/float32/0")
    sigmoid = next(m for m in micro_models() if m.name == "Sigmoid/float32/0")
    return [
        bundle.Job(micro.name, micro, (1, 3)),
        bundle.Job(sigmoid.name, sigmoid, (1, 2)),
        bundle.Job("net/ds-cnn/float32", Net("ds-cnn", "float32")),
    ]


@pytest.fixture(scope="module")
def archive() -> bytes:
    return bundle.write_archive(_jobs())


@pytest.fixture
def program(archive: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "device.pyz"
    path.write_bytes(archive)
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _measure(program: Path, results: Path, *more: str, minutes: str = "0.03") -> int:
    arguments = [str(results), "--bundle", str(program), "--minutes", minutes, "--quiet"]
    return measure.main([*arguments, "--threads", "1", *more])


@pytest.mark.parametrize("name", device.MODULES)
def test_what_is_carried_is_python_3_9_and_needs_nothing_else(name: str) -> None:
    source = (Path(device.__file__).parent / name).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    foreign = [
        m for m in imported
        if m.partition(".")[0] not in ALLOWED and not m.startswith("graphopt.runtime.device")
    ]  # fmt: skip
    assert foreign == []
    assert "graphopt.runtime.device.run" not in imported
    # Annotations such as `float | None` are only texts before Python 3.10 with this import.
    assert "from __future__ import annotations" in source


def test_the_archive_runs_alone_and_measures_everything(program: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, str(program), str(results), "--minutes", "0.05", "--threads", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "measured 6 of 6 (100 %)" in done.stderr
    head, *lines = _lines(results)
    assert head["graphopt_measurements"] == device.SCHEMA
    assert head["device"]["runtime"].startswith("onnxruntime ")
    jobs = [line for line in lines if "job" in line]
    assert sorted((j["job"], j["visit"]) for j in jobs) == [
        (name, visit)
        for name in ("Sigmoid/float32/0", "depthwise/float32/0", "net/ds-cnn/float32")
        for visit in (0, 1)
    ]
    assert all("error" not in line for line in jobs)
    assert sum("anchor_us" in line for line in lines) >= 2


def test_chains_of_two_lengths_are_timed_and_the_longer_one_is_profiled(
    program: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    assert _measure(program, results) == 0
    chain = next(x for x in _lines(results) if x.get("job") == "depthwise/float32/0")
    assert len(chain["min_us"]) == len(chain["median_us"]) == 2
    assert 0 < chain["min_us"][0] < chain["min_us"][1]
    assert all(least <= mid for least, mid in zip(chain["min_us"], chain["median_us"], strict=True))
    units = [name for name, op, *_ in chain["kernels"] if op == "Conv"]
    assert len(units) == 3, "one convolution a unit, three units"


def test_an_interrupted_measurement_goes_on_where_it_stopped(program: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert _measure(program, results) == 0
    whole = results.read_text().splitlines(keepends=True)
    jobs = [i for i, line in enumerate(whole) if '"job"' in line]
    kept = whole[: jobs[2] + 1]
    results.write_text("".join(kept) + whole[jobs[3]][:20])  # the fourth was being written
    assert _measure(program, results) == 0
    lines = results.read_text().splitlines(keepends=True)
    assert lines[: len(kept)] == kept
    found = [(x["job"], x["visit"]) for x in map(json.loads, lines) if "job" in x]
    assert len(found) == len(set(found)) == 6


def test_nothing_is_measured_twice(program: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    _measure(program, results)
    before = [x for x in _lines(results) if "job" in x]
    _measure(program, results)
    assert [x for x in _lines(results) if "job" in x] == before


def test_results_of_other_models_are_not_mixed(program: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    header = {"graphopt_measurements": device.SCHEMA, "digest": "another"}
    results.write_text(json.dumps(header) + "\n")
    with pytest.raises(SystemExit, match="other models"):
        _measure(program, results)
    results.write_text('{"a": 1}\n')
    with pytest.raises(SystemExit, match="something else"):
        _measure(program, results)
    assert results.read_text() == '{"a": 1}\n'


def test_a_model_that_the_runtime_refuses_is_told_and_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    chosen = bundle.write_archive(_jobs()[1:2])
    program = tmp_path / "device.pyz"
    program.write_bytes(chosen)
    good = measure.Bundle(str(program))
    for name in ("models/anchor.onnx", "models/000-0.onnx"):
        (folder / name).write_bytes(good.read(name))
    (folder / "models/000-1.onnx").write_bytes(b"not a model")
    (folder / "manifest.json").write_text(json.dumps(good.manifest))
    results = tmp_path / "results.json"
    assert _measure(folder, results) == 0
    faults = [x for x in _lines(results) if "error" in x]
    assert [x["job"] for x in faults] == ["Sigmoid/float32/0"] * 2


def test_when_time_is_up_the_rest_is_left_out(program: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert _measure(program, results, minutes="0.000001") == 0
    assert sum("job" in x for x in _lines(results)) < 6


def test_whole_models_come_early_and_the_order_is_seeded() -> None:
    jobs = [
        {"name": f"{i}", "machines": "", "parallel": i % 2 == 0, "early": i < 20, "weight": 1.0}
        for i in range(100)
    ]
    manifest = {"seed": 0, "jobs": jobs}
    tasks = measure.tasks_of(manifest, 4)
    assert [t.key for t in tasks] == [t.key for t in measure.tasks_of(manifest, 4)]
    assert len(tasks) == 2 * (100 + 50)
    assert len({t.key for t in tasks}) == len(tasks)
    first = [t for t in tasks if t.visit == 0]
    assert tasks[: len(first)] == first, "every model is visited once before any is twice"
    early = [i for i, t in enumerate(first) if t.job["early"]]
    assert max(early) < 0.75 * len(first)


def test_models_for_other_machines_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("", "x86", "arm")
    jobs = [
        {"name": kind, "machines": kind, "parallel": False, "early": False, "weight": 1.0}
        for kind in kinds
    ]
    for machine, wanted in (("x86_64", {"", "x86"}), ("aarch64", {"", "arm"})):
        monkeypatch.setattr(measure.platform, "machine", lambda name=machine: name)
        tasks = measure.tasks_of({"seed": 0, "jobs": jobs}, 1)
        assert {t.job["name"] for t in tasks} == wanted


def test_kernel_times_leave_out_slow_runs_and_add_what_truncation_takes() -> None:
    durations = [900, 900, 10, 11, 10, 11, 500, 400]
    events = [
        {"cat": "Node", "name": "a_kernel_time", "dur": d, "args": {"op_name": "Conv"}}
        for d in durations
    ]
    events.append({"cat": "Session", "name": "model_run", "dur": 5})
    ((name, op, us, median, runs),) = timing._kernel_times(events)
    assert (name, op, runs) == ("a", "Conv", 6)
    assert us == pytest.approx((10 + 10 + 11) / 3 + 0.5, abs=1e-3)
    assert median == 11.5


def test_feeds_are_the_same_everywhere() -> None:
    specs = {
        "x": {"dtype": "float32", "shape": [2, 2], "low": -1.0, "high": 1.0},
        "n": {"dtype": "int64", "shape": [3], "low": 0, "high": 10},
    }
    first, second = timing.make_feeds(specs), timing.make_feeds(specs)
    assert first["x"].dtype == "float32"
    assert first["n"].dtype == "int64"
    assert all((first[k] == second[k]).all() for k in specs)
    assert (abs(first["x"]) <= 1).all()


def test_the_device_describes_itself() -> None:
    found = facts.device_facts()
    assert found["processor"]
    assert found["cores"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_a_failing_program_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="ended with code") as caught:
        run.run_archive(b"raise SystemExit('no runtime')", tmp_path / "r.json", minutes=0.1)
    assert caught.value.code == "G504"
    assert "no runtime" in caught.value.message


def test_an_interruption_of_the_program_is_one_here(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.run_archive(b"raise SystemExit(130)", tmp_path / "r.json", minutes=0.1)
