"""Files of results from elsewhere: read when they are right, refused with a place when not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.cost.profiling.results import read_results
from graphopt.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

HEAD: dict[str, Any] = {
    "graphopt_measurements": 1,
    "digest": "d",
    "version": "0.1.0",
    "seed": 0,
    "threads": [1, 4],
    "device": {
        "processor": "Cortex-A76",
        "machine": "aarch64",
        "system": "Linux 6.1",
        "flags": ["asimd", "asimddp"],
        "runtime": "onnxruntime 1.23.0",
        "numpy": "2.0.0",
        "python": "3.9.2",
        "cores": 4,
        "governor": "performance",
        "mhz": None,
        "max_mhz": 2400.0,
    },
}
JOB: dict[str, Any] = {
    "at": 1.5,
    "job": "conv/float32/0",
    "threads": 1,
    "visit": 0,
    "runs": 30,
    "min_us": [10.0, 31.0],
    "median_us": [11.0, 32.5],
    "kernels": [["k1_0_Conv", "Conv", 12.0, 12.5, 20]],
}
ANCHOR = {"anchor_us": 50.0, "at": 0.1}


def _file(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "results.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    again = {**JOB, "visit": 1, "at": 9.0, "min_us": [9.5, 33.0], "kernels": []}
    failed = {"job": "x", "threads": 4, "at": 2.0, "visit": 0, "error": "no kernel"}
    found = read_results(_file(tmp_path, HEAD, ANCHOR, JOB, failed, again, {**ANCHOR, "at": 10}))
    assert found.device["processor"] == "Cortex-A76"
    assert found.threads == (1, 4)
    first, second = found.timed
    assert first.min_us == (9.5, 31.0), "the better of both visits"
    assert first.at == 1.5
    assert first.kernels[0].op == "Conv"
    assert second.error == "no kernel"
    assert found.drift.us == (50.0, 50.0)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = _file(tmp_path, HEAD, JOB)
    path.write_text(path.read_text() + '{"job": "b", "thr')
    assert len(read_results(path).timed) == 1


def _refusal(path: Path) -> TargetError:
    with pytest.raises(TargetError) as caught:
        read_results(path)
    assert caught.value.code == "G504"
    assert caught.value.where
    assert caught.value.where.startswith(str(path))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"threads": True},
        {"threads": "1"},
        {"min_us": []},
        {"min_us": [1.0]},
        {"min_us": [0.0, 1.0]},
        {"min_us": [-1.0, 1.0]},
        {"min_us": [1e300, 1.0]},
        {"min_us": ["1", 1.0]},
        {"min_us": "abcdefgh"},
        {"kernels": [["a", "b", 1.0]]},
        {"kernels": [["a", "b", 1.0, "x", 1]]},
        {"kernels": [["\x1b[2J", "b", 1.0, 1.0, 1]]},
        {"kernels": {}},
        {"job": None},
        {"job": "x" * 1000},
        {"at": None},
        {"at": -1},
    ],
)
def test_a_line_with_something_else_is_refused_with_its_number(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    error = _refusal(_file(tmp_path, HEAD, ANCHOR, {**JOB, **change}))
    assert str(error.where).endswith(":3")


@pytest.mark.parametrize("text", ["", "{}", "[1]\n", "null\n", "not json\n", '{"a": NaN}\n'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    _refusal(path)


def test_not_a_number_is_no_time(tmp_path: Path) -> None:
    path = _file(tmp_path, HEAD)
    path.write_text(path.read_text() + json.dumps({**JOB, "min_us": [float("nan"), 1.0]}) + "\n")
    _refusal(path)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    _refusal(tmp_path / "absent.json")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    _refusal(binary)
    large = tmp_path / "large.json"
    with large.open("wb") as stream:
        stream.truncate(33 << 20)
    _refusal(large)


@pytest.mark.parametrize("field", ["processor", "cores", "flags", "mhz"])
def test_facts_of_the_device_have_their_types(tmp_path: Path, field: str) -> None:
    head = {**HEAD, "device": {**HEAD["device"], field: {"nested": 1}}}
    _refusal(_file(tmp_path, head))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(JOB)), _JSON, st.booleans())
def test_no_content_raises_anything_but_our_error(
    tmp_path: Path, key: str, value: Any, in_head: bool
) -> None:
    head = {**HEAD, key: value, "device": value} if in_head else HEAD
    path = _file(tmp_path, head, {**JOB, key: value})
    code = "G504"
    try:
        read_results(path)
    except TargetError as error:
        code = error.code
    assert code == "G504"
