"""What `analyze --pruning` and `explain --model` print, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from graphopt.analysis import prunability as p
from graphopt.api.prunable import PruningAnalysis
from graphopt.cli.render_explain import tensor_page
from graphopt.cli.render_pruning import prunable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = "/a/very/long/name/of/a/weight/deep/inside/of/a/model/conv.weight"
INEXACT = tuple(f"RMSNormalization `n{i}` normalizes over fewer elements" for i in range(3))
GROUPS = (
    p.GroupFacts(
        "w1", 64, "channel", 1, 1, (p.Span("w1", 0, 1, 64, 64, True),),
        ("conv1",), ("conv2",), (), 0.25, 0.5, 1.2, 32, 0.0123,
    ),
    p.GroupFacts(
        LONG, 4, "head", 16, 2, (p.Span("q", 2, 16, 64, 128, False),),
        ("a_query_projection", "a_key_projection"), ("output",), INEXACT, 0.0004, 1.0, 2.4,
        2, float("inf"),
    ),
)  # fmt: skip
BRANCHES = (
    p.BranchFacts("sum1", "x", "add1", ("c1", "r1", "c2"), 0.1, 0.2, 0.5, ("drop", "lin1")),
    p.BranchFacts("sum2", "x", "add2", ("c3",), 0.1, 0.1, 0.2, ("drop", "lin1")),
    p.BranchFacts("sum3", "x", "add3", ("c4",), 0.0, 0.1, 0.2, (), "its sizes are not known"),
)
STAYS = (
    p.Stays("there is no coupling rule for Foo (`foo`)", 0.42, 2, ("a", "b")),
    p.Stays("it is an output of the model", 0.001, 0, ("c",)),
)
RESULT = PruningAnalysis(
    "net.onnx", "arm64-dotprod", 12345, 2.4, GROUPS, BRANCHES, STAYS, 0.9, "calib.npz", 30
)


def test_the_page() -> None:
    lines = prunable(RESULT, top=10)
    assert max(map(len, map(click.unstyle, lines))) <= 80
    assert click.unstyle("\n".join(lines)) == (
        "net.onnx for arm64-dotprod, simplified\n"
        "12.3 k weights, of which 90.0 % hang on what can be removed; 2.40 ms estimated\n"
        "\n"
        "2 groups                                       units   weights     time    half\n"
        "w1                                       64 channels    25.0 %   50.0 %   0.012\n"
        "    conv1 -> conv2\n"
        f"{LONG}\n"
        "                                             4 heads   < 0.1 %    100 %    lost\n"
        "    a_query_projection and 1 more -> output\n"
        "    a head is 16 columns of the narrowest layer\n"
        "    at least 2 go at once, one of each part\n"
        "    approximate: RMSNormalization `n0` normalizes over fewer elements, and 2\n"
        "      more\n"
        "  layers that make the units -> layers that read them; weights and time: shares\n"
        "  of the model that hang on the group, of what it reads as of what it makes, so\n"
        "  that they add up to more than 100 %\n"
        "  half: how far the outputs diverge when about half of the units are left and\n"
        "  the layers that read them are fitted, on 30 samples of calib.npz; 0.1 costs a\n"
        "  classifier about one point\n"
        "\n"
        "3 residual branches                        operators   weights     time\n"
        "sum1                                               3    10.0 %   20.0 %\n"
        "sum2                                               1    10.0 %   10.0 %\n"
        "    ^ can become drop, lin1\n"
        "sum3                                               1       0 %   10.0 %\n"
        "    stays: its sizes are not known\n"
        "  drop: a constant, its mean\n"
        "  lin1, lin3: one product, or convolution of kernel 1 or 3, beside the skip\n"
        "\n"
        "what stays: channels that 42.1 % of the weights make\n"
        "   42.0 %  there is no coupling rule for Foo (`foo`) and 2 reasons like it: a, b\n"
        "    0.1 %  it is an output of the model: c\n"
        "  `graphopt explain TENSOR --model MODEL` shows what an axis is coupled with"
    )


def test_top_cuts_and_verbose_shows_every_axis() -> None:
    short = [click.unstyle(line) for line in prunable(RESULT, top=1)]
    assert "1 more group: --top N shows more, -v all, with axes" in short
    assert "2 more branches: --top N shows more" in short
    assert not any(LONG in line for line in short)
    full = [click.unstyle(line) for line in prunable(RESULT, top=1, verbose=True)]
    assert "      `w1` (weight) axis 0: 64 indices" in full
    assert "      `q` axis 2: 64 of 128 indices, 16 a unit" in full
    assert "    a_query_projection, a_key_projection -> output" in full


def test_a_model_of_which_nothing_can_go() -> None:
    nothing = PruningAnalysis("net.onnx", "host", 10, 0.1, (), (), STAYS[1:], 0.0)
    lines = [click.unstyle(line) for line in prunable(nothing, top=5)]
    assert lines[1] == "10 weights, and no channels that can be removed; 0.100 ms estimated"
    assert not any("groups" in line for line in lines)


def test_the_page_of_a_tensor() -> None:
    far = p.Origin("Slice `s1` fixes it", "other", 2)
    stays = p.AxisPart(
        ((2, 3), (5, 5)), None, "", (p.Origin("it is an input of the model", "t", 1), far, far), ()
    )
    ties = (p.Tie("conv", "Conv", tuple((f"v{i}", 0) for i in range(6))),)
    goes = p.AxisPart(((0, 1), (4, 4)), "w1", "channel", (), ties)
    axes = (p.AxisFacts(0, 1, ()), p.AxisFacts(1, 6, (goes, stays)), p.AxisFacts(2, "N", ()))
    found = p.TensorFacts("t", "float32", (1, 6, "N"), "activation", "conv", ("r",), axes)
    assert [click.unstyle(line) for line in tensor_page(found)] == [
        "t",
        "  float32 activation, 1x6xN",
        "  made by `conv`",
        "  read by `r`",
        "",
        "axis 0: 1 index, nothing to prune",
        "",
        "axis 1, indices 0 to 1 and 4",
        "  can go, as channels of the group `w1`",
        "  Conv `conv` couples it with `v0` axis 0, `v1` axis 0, `v2` axis 0 and 3 more",
        "axis 1, indices 2 to 3 and 5",
        "  stays because it is an input of the model",
        "  stays because it goes with `other` axis 2, and that stays because Slice `s1`",
        "    fixes it; 1 more reason like it",
        "",
        "axis 2: its size is not known before the model runs, so it stays",
    ]
    assert any("`v5` axis 0" in line for line in tensor_page(found, verbose=True))


def test_a_real_model(run: Callable, models: Path) -> None:
    model = models / "digits_resnet.onnx"
    done = run("analyze", model, "--pruning", "--data", models / "digits.npz", "--top", "3")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(len(line) for line in lines[1:]) <= 80
    assert any(line.startswith("stage1.conv1.weight_fused") for line in lines)
    assert any(line.startswith("  half: ") for line in lines)


def test_json_is_one_document_and_quiet_is_quiet(run: Callable, models: Path) -> None:
    model = models / "digits_resnet.onnx"
    found = run("analyze", model, "--pruning", "--format", "json", "--no-progress")
    assert found.err == ""
    assert {"groups", "branches", "stays", "free", "milliseconds"} <= {*found.json}
    assert {"name", "units", "unit", "spans", "makers", "readers"} <= {*found.json["groups"][0]}
    assert run("analyze", model, "--pruning", "-q") == (0, "", "")
    arguments = ("explain", "head.weight", "--model", model, "--axis", "-1")
    axes = run(*arguments, "--format", "json").json["axes"]
    assert [axis["axis"] for axis in axes] == [1]
    assert axes[0]["parts"][0]["group"] == "stage2.conv2.weight_fused"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("analyze", "MODEL", "--pruning", "--quantization"), "G108", "one thing at a time"),
        (("analyze", "MODEL", "--pruning", "--samples", "3"), "G108", "--samples"),
        (("analyze", "MODEL", "--pruning", "--data", "nowhere.npz"), "G211", "does not exist"),
        (("explain", "head.weigt", "--model", "MODEL"), "G217", "did you mean `head.weight`?"),
        (("explain", "head.weight", "--model", "MODEL", "--axis", "2"), "G217", "no axis 2"),
        (("explain", "head.weight", "--axis", "2"), "G108", "--model"),
        (("explain", "head.weight", "--model", "MODEL", "--report", "r"), "G108", "give one"),
        (("explain", "head.weight"), "G108", "--model MODEL"),
        (("explain", "x", "--model", "nowhere.onnx"), "G201", "nowhere.onnx"),
    ],
)
def test_what_is_refused(
    run: Callable, models: Path, arguments: tuple[str, ...], code: str, says: str
) -> None:
    model = models / "digits_resnet.onnx"
    done = run(*(model if a == "MODEL" else a for a in arguments))
    assert (done.code, done.out) == (2, "")
    assert f"error[{code}]" in done.err
    assert says in done.err
    assert "Traceback" not in done.err
