"""What `graphopt analyze` prints, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from graphopt import report as r
from graphopt.cli.render_analyze import analysis, precision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = "/a/very/long/name/of/an/operator/deep/inside/of/a/model/conv/Conv"
RESULT = r.QuantizationAnalysis(
    model="net.onnx",
    reference="net.onnx",
    target="arm64-dotprod",
    data="calib.npz",
    samples=32,
    layers=(
        r.LayerSensitivity(
            "/stem/Conv", "Conv", 31.5, 9.93, 30.8, 9.8,
            "a weight of magnitude 60 is an outlier, 179 times the 99.9th percentile of its "
            "weights; its output `b` has long tails (kurtosis 135)",
            {"weight_peak": 60.0},
        ),
        r.LayerSensitivity(LONG, "MatMul", None, None, float("inf"), 20.0, "no single cause"),
        r.LayerSensitivity("last", "Gemm", 50.0, 50.0, 40.0, 40.0, "as accurate as can be"),
    ),
    outputs={"logits": 19.64},
    floats={"Conv_9": "its weight is computed at run time"},
)  # fmt: skip


def test_the_table() -> None:
    assert click.unstyle("\n".join(analysis(RESULT, top=2))) == (
        "net.onnx for arm64-dotprod: 3 quantized operators, measured on 32 samples of\n"
        "  calib.npz\n"
        "  output `logits`: 19.6 dB\n"
        "\n"
        "operator                                   alone  by channel  in model\n"
        "/stem/Conv (Conv)                        31.5 dB      9.9 dB   30.8 dB\n"
        "    a weight of magnitude 60 is an outlier, 179 times the 99.9th percentile of\n"
        "    its weights; its output `b` has long tails (kurtosis 135)\n"
        f"{LONG} (MatMul)\n"
        "                                               -           -     exact\n"
        "    no single cause\n"
        "1 more operator: --top N shows more\n"
        "\n"
        "1 heavy operator not quantized\n"
        "  `Conv_9`: its weight is computed at run time"
    )


def test_verbose_shows_all_and_the_facts() -> None:
    lines = analysis(RESULT, top=1, verbose=True)
    assert "      weight_peak = 60" in lines
    assert any(line.startswith("last (Gemm)") for line in lines)


def test_what_compile_says_of_operators_that_were_returned() -> None:
    returned = (r.ReturnedOperator("/stem/Conv", 12.34, "its bias does not fit into 32 bits"),)
    record = r.PrecisionRecord(
        "top1", "points", 89.5, 80.1, 90.0, returned, 7, True, "500 labelled samples"
    )
    assert precision(record) == [
        "top1 was 80.1 points with everything in integers, 89.5 points wanted (500",
        "  labelled samples)",
        "1 operator returned to float: now 90 points; 7 models checked",
        "  `/stem/Conv` (12.3 dB alone): its bias does not fit into 32 bits",
    ]
    lost = r.PrecisionRecord("SNR", "dB", 60.0, 19.6, float("inf"), returned, 7, False)
    assert (
        precision(lost)[-1] == "everything stays in float: 7 models checked, none was near enough"
    )
    assert precision(None) == []


def test_a_real_model(run: Callable, models: Path) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    done = run("analyze", model, "--quantization", "--data", data, "--top", "3")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(len(line) for line in lines[3:]) <= 80
    assert sum(line.endswith(" dB") for line in lines if "alone" not in line) >= 3
    assert "insert-qdq:" in done.err
    assert "insert-qdq:" not in done.out


def test_json_is_one_document_and_quiet_is_quiet(run: Callable, models: Path) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    arguments = ("analyze", model, "--quantization", "--data", data, "--samples", "4")
    done = run(*arguments, "--format", "json", "--no-progress")
    assert done.err == ""
    assert done.json["samples"] == 4
    assert {"node", "isolated_db", "cumulative_db", "why", "facts"} <= {*done.json["layers"][0]}
    assert run(*arguments, "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), "G108", "--quantization"),
        (("--quantization",), "G213", "--data"),
        (("--quantization", "--data", "nowhere.npz"), "G211", "does not exist"),
        (("--quantization", "--top", "0"), "G108", "--top"),
    ],
)
def test_what_is_refused(
    run: Callable, models: Path, arguments: tuple[str, ...], code: str, says: str
) -> None:
    done = run("analyze", models / "digits_resnet.onnx", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert f"error[{code}]" in done.err
    assert says in done.err
    assert "Traceback" not in done.err


def test_max_drop_without_labels_is_an_error(run: Callable, models: Path, tmp_path: Path) -> None:
    model, data = models / "digits_resnet.onnx", models / "digits.npz"
    out = tmp_path / "out.onnx"
    judged = ("--max-drop", "0.5", "--set", "limits.metric=top1")
    done = run("compile", model, "--data", data, *judged, "-o", out)
    assert done.code == 2
    assert "error[G216]" in done.err
    assert not out.exists()
