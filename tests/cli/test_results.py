"""What inspect, bench, diff, recipe and explain print, from results made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt import report as r
from graphopt.cli.encode import to_json
from graphopt.cli.error_pages import PAGES
from graphopt.errors import CODES

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

PORT = r.PortFacts("input", ("batch", 3, None, 224), "float32")


@pytest.fixture
def results(api: types.ModuleType) -> types.ModuleType:
    facts = r.ModelFacts("m.onnx", 3, 1_234_567, 5_000_000, 17, "abc")
    summary = r.ModelSummary(
        facts,
        (PORT,),
        (r.PortFacts("scores", None, "float32"),),
        {"Relu": 1, "Conv": 2},
        {"float32": 4_900_000, "int64": 16},
        (r.Notice("G207", "no kernel for `Foo`"),),
    )
    bench = r.BenchResult("a.onnx", 1.25, 200, 1, "this machine", "b.onnx", 2.5, 2.0, 1.9, 2.123)
    diff = r.DiffResult(
        (
            r.OutputDifference("logits", 0.031, 0.002, 41.2),
            r.OutputDifference("same", 0.0, 0.0, float("inf")),
        ),
        ("`Conv_1` is QLinearConv in b",),
        16,
        "seeded probe inputs",
    )
    answers = {"inspect": summary, "bench": bench, "diff": diff}
    for name, answer in answers.items():

        def ask(*args: Any, _answer: Any = answer, **given: Any) -> Any:
            api.calls.append({"args": args, **given})
            return _answer

        setattr(api, name, ask)
    return api


@pytest.mark.usefixtures("results")
def test_inspect(run: Callable) -> None:
    done = run("inspect", "m.onnx")
    assert done.out == (
        "m.onnx\n"
        "  nodes       3\n"
        "  parameters  1,234,567\n"
        "  size        4.8 MiB\n"
        "  opset       17\n"
        "  digest      abc\n"
        "\n"
        "  input   input   float32  batchx3x?x224\n"
        "  output  scores  float32  any rank\n"
        "\n"
        "  operator  nodes\n"
        "  Conv          2\n"
        "  Relu          1\n"
        "\n"
        "  weights      size\n"
        "  float32   4.7 MiB\n"
        "  int64    16 bytes\n"
    )
    assert done.err == "warning[G207]: no kernel for `Foo`\n"
    assert run("inspect", "m.onnx", "--format", "json").json["operators"] == {"Relu": 1, "Conv": 2}


def test_bench(run: Callable, results: Any) -> None:
    done = run("bench", "a.onnx", "--against", "b.onnx", "--seconds", "0.5")
    assert done.out == (
        "  a.onnx  1.25 ms\n"
        "  b.onnx  2.50 ms\n"
        "  speed 2.00 x (1.90 to 2.12 x) of `b.onnx`\n"
        "measured, medians of 200 runs, 1 thread; this machine\n"
    )
    call = results.calls[-1]
    assert (call["against"], call["seconds"], call["threads"]) == (Path("b.onnx"), 0.5, 1)
    results.bench = lambda *_, **__: r.BenchResult("a.onnx", 1.25, 1, 2, "this machine")
    alone = run("bench", "a.onnx").out
    assert alone == "  a.onnx  1.25 ms\nmeasured, medians of 1 run, 2 threads; this machine\n"


@pytest.mark.usefixtures("results")
def test_diff(run: Callable) -> None:
    done = run("diff", "a.onnx", "b.onnx")
    assert done.out == (
        "  output  max |error|  relative      SNR\n"
        "  logits       0.0310   0.00200  41.2 dB\n"
        "  same              0         0    equal\n"
        "measured on 16 samples; seeded probe inputs\n"
        "\n"
        "structure:\n"
        "  `Conv_1` is QLinearConv in b\n"
    )
    assert run("diff", "a", "b", "--format", "json").json["outputs"][1]["snr_db"] is None


def test_every_error_code_has_a_page_and_no_page_is_stale(run: Callable) -> None:
    assert PAGES.keys() == CODES.keys()
    for code in CODES:
        page = run("explain", code.lower())
        assert page.code == 0
        assert page.out.startswith(f"{code}: {CODES[code]}\n")
        assert all(len(line) <= 80 for line in page.out.splitlines())


def test_explain_a_node_from_a_report(run: Callable, report: r.Report, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(to_json(report), encoding="utf-8")
    done = run("explain", "Conv_41", "--report", path)
    assert done.out == (
        "Conv_41\n"
        "  Conv runs in float as FusedConv: its weight is shared with `Conv_43`\n"
        "  insert-qdq: its weight is shared with `Conv_43`\n"
    )
    as_json = run("explain", "Conv_41", "--report", path, "--format", "json").json
    assert as_json["operators"][0]["execution"] == "float"
    unknown = run("explain", "Conv_411", "--report", path)
    assert unknown.code == 2
    assert "hint: did you mean `Conv_41`?" in unknown.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read the report"),
        ("{", "the report is not JSON"),
        ("[" * 100_000, "the report is not JSON"),
        ("[]", "not a report of graphopt"),
        ('{"explanations": 3}', "says nothing of a node"),
    ],
)
def test_explain_refuses_what_is_no_report(
    run: Callable, tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "m.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = run("explain", "Conv_1", "--report", path)
    assert done.code == 2
    assert done.err.startswith("error[G108]: ")
    assert says in done.err


def test_explain_says_what_a_subject_may_be(run: Callable) -> None:
    assert "there is no error code `G999`" in run("explain", "G999").err
    assert "--report MODEL.TARGET.json" in run("explain", "Conv_1").err


def test_recipe_lists_shows_and_checks(run: Callable, api: Any, tmp_path: Path) -> None:
    from graphopt.recipe import preset_names, preset_text

    assert run("recipe", "show").out.split() == list(preset_names())
    assert run("recipe", "show", "--format", "json").json == list(preset_names())
    for name in preset_names():
        assert run("recipe", "show", name).out == preset_text(name).rstrip() + "\n"
    assert 'use = "fold-constants" # default' in run("recipe", "show", "r.toml").out
    path = tmp_path / "r.toml"
    done = run("recipe", "check", path)
    assert done.out == f"{path}: valid, 1 pass for host\n"
    assert api.calls[-1]["recipe"] == path
    assert run("recipe", "check", path, "--format", "json").json["passes"] == ["fold-constants"]


def test_json_has_no_infinity() -> None:
    text = to_json({"a": float("inf"), "b": (float("nan"), 1.5), "c": Path("x")})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "x"}
