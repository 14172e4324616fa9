"""`graphopt compile`: what it asks the API for, what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt.errors import LimitError, ModelError
from graphopt.recipe import ResolvedRecipe

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

    from graphopt.report import Report

SUMMARY = """\
Read resnet18.onnx: 69 nodes, 11.7 M parameters, 44.6 MiB, opset 17
Recipe preset default: 5 steps for arm; calibrated on 256 samples of data/calib;
  16 more held out to check

  fold-constants       3 nodes folded                                      0.1 s
  fuse-conv-batchnorm  20 pairs fused                                      0.2 s
  insert-qdq           21 of 22 heavy operators in integer, bias of 20    31.4 s
                       Conv as int32, 1 Gemm
  fancy-pass           rolled back: the outputs differ by 0.5 of the       1.0 s
                       largest value, and 1e-4 is allowed
  1 pass changed nothing                                                   0.0 s

                      before     after
  size              44.6 MiB  11.3 MiB  -75 %  measured; file
  latency            41.2 ms   12.9 ms  -69 %  estimated, 9.80 to 16.0 ms;
                                               arm64-neon, one thread
  peak activations   6.1 MiB   1.5 MiB  -75 %  estimated; liveness
  SNR                      -   31.2 dB         measured; 16 held-out samples

  placements tried     speed      SNR
  all integer         3.19 x  31.2 dB  chosen, estimated; fastest that is
                                       allowed
  depthwise in float  2.80 x  33.0 dB  estimated
  original            1.00 x        -  estimated

21 of 22 heavy operators run in integer, 1 in float
  1 in float: `Conv_41`: its weight is shared with `Conv_43`

Wrote resnet18.arm.onnx, resnet18.arm.json in 34.7 s
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "resnet18.onnx"
    path.write_bytes(b"original")
    return path


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.usefixtures("api", "model")
def test_the_summary_is_on_stdout_and_the_rest_on_stderr(run: Callable) -> None:
    done = run("compile", "resnet18.onnx", "--target", "arm")
    assert done.code == 0
    assert done.out == SUMMARY
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert "fold-constants: 3 nodes folded (0.1 s)\n" in done.err
    assert done.err.endswith(
        "warning[W301]: `Conv_41` stayed float32: its weight is shared with `Conv_43`\n"
        "               run with `--explain`\n"
    )
    assert Path("resnet18.arm.onnx").read_bytes() == b"model"
    assert Path("resnet18.onnx").read_bytes() == b"original"


@pytest.mark.usefixtures("api", "model")
def test_json_is_the_report_and_nothing_else(run: Callable) -> None:
    done = run("compile", "resnet18.onnx", "--target", "arm", "--format", "json")
    assert done.json["written"] == ["resnet18.arm.onnx", "resnet18.arm.json"]
    assert done.json["figures"][3]["before"] is None
    written = json.loads(Path("resnet18.arm.json").read_text())
    assert {k: v for k, v in done.json.items() if k != "written"} == written


@pytest.mark.usefixtures("api", "model")
def test_quiet_prints_nothing(run: Callable) -> None:
    assert run("-q", "compile", "resnet18.onnx") == (0, "", "")
    assert run("compile", "resnet18.onnx", "--no-progress").err.count("\n") == 2


@pytest.mark.usefixtures("api", "model")
def test_verbose_adds_options_checks_and_operators(run: Callable) -> None:
    out = run("compile", "resnet18.onnx", "-v").out
    assert "max_size = 1024" in out
    assert "checked: max error 3.1e-07 of the largest output" in out
    assert "Conv_20  Conv  integer  QLinearConv" in out


@pytest.mark.usefixtures("api", "model")
def test_explain_prints_the_reasons_of_a_node(run: Callable) -> None:
    out = run("compile", "resnet18.onnx", "--explain", "Conv_41", "--explain", "nosuch").out
    assert out.endswith(
        "`Conv_41` insert-qdq: its weight is shared with `Conv_43`\n"
        "`nosuch`: no reason was recorded\n"
    )


def test_every_option_reaches_the_api(run: Callable, api: Any, model: Path) -> None:
    args = ["--target", "x86", "--data", "d.npz", "--recipe", "r.toml", "--strict", "--no-measure"]
    args += ["--set", "insert-qdq.weights=int8", "--max-error", "0.1", "--min-snr", "20"]
    args += ["--explain", "n", "--dump-after", "insert-qdq", "dumps", "-o", "out.onnx"]
    assert run("compile", model, *args).code == 0
    resolved, asked = api.calls
    assert asked.pop("registry") is resolved.pop("registry")
    assert isinstance(asked.pop("recipe"), ResolvedRecipe)
    assert resolved == {
        "model": model,
        "target": "x86",
        "data": Path("d.npz"),
        "recipe": "r.toml",
        "overrides": (
            "insert-qdq.weights=int8",
            "limits.max-relative-error=0.1",
            "limits.min-snr-db=20.0",
        ),
    }
    assert asked == {
        "model": model,
        "strict": True,
        "measure": False,
        "explain": ("n",),
        "dump_after": "insert-qdq",
        "dump_dir": Path("dumps"),
        "sensitivity": False,
    }
    assert Path("out.onnx").exists()
    assert Path("out.json").exists()


def test_what_was_not_given_is_left_to_the_recipe(run: Callable, api: Any, model: Path) -> None:
    assert run("compile", model).code == 0
    assert not {"target", "recipe", "data"} & api.calls[0].keys()
    assert api.calls[1]["measure"] is None
    assert Path("resnet18.host.onnx").exists()


@pytest.mark.usefixtures("model")
def test_dry_run_prints_origins_and_writes_nothing(run: Callable, api: Any) -> None:
    done = run("compile", "resnet18.onnx", "--target", "arm", "--dry-run")
    assert done.code == 0
    assert 'target = "arm" # default' in done.out
    assert len(api.calls) == 1
    assert files() == ["resnet18.onnx"]
    as_json = run("compile", "resnet18.onnx", "--dry-run", "--format", "json").json
    assert as_json["origins"]["passes.fold-constants.use"] == "default"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("resnet18.onnx", "never overwritten"),
        ("./sub/../resnet18.onnx", "never overwritten"),
        ("hard.onnx", "never overwritten"),
        ("soft.onnx", "never overwritten"),
        ("sub", "is a folder"),
        ("nosuch/out.onnx", "does not exist"),
        ("out.json", "named as the report"),
    ],
)
def test_an_output_that_must_not_be_is_refused_first(
    run: Callable, api: Any, model: Path, output: str, says: str
) -> None:
    Path("sub").mkdir()
    Path("hard.onnx").hardlink_to(model)
    Path("soft.onnx").symlink_to(model)
    done = run("compile", "resnet18.onnx", "-o", output)
    assert done.code == 2
    assert done.err.startswith("error[G208]: ")
    assert says in done.err.splitlines()[0]
    assert len(api.calls) == 1
    assert model.read_bytes() == b"original"


def test_a_model_in_a_folder_that_is_not_there_is_left_to_the_api(run: Callable, api: Any) -> None:
    error = ModelError("there is no such file", code="G201", where="nosuch/m.onnx")
    api.compile = _failing(error)
    assert run("compile", "nosuch/m.onnx").err.startswith("error[G201]: ")


def _failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.usefixtures("model")
def test_a_failed_limit_is_1_and_writes_only_with_keep(
    run: Callable, api: types.ModuleType, report: Report
) -> None:
    class Compiled:
        def __init__(self) -> None:
            self.report = report

        def save(self, path: Path, *, html: bool) -> tuple[Path, ...]:
            assert not html
            path.write_bytes(b"kept")
            return (path,)

    error = LimitError("`min-snr-db` is 31.2 dB, below 40 dB", hint="lower `--min-snr`")
    error.compiled = Compiled()
    api.compile = _failing(error)  # type: ignore[attr-defined]
    done = run("compile", "resnet18.onnx")
    assert (done.code, done.out) == (1, "")
    assert files() == ["resnet18.onnx"]
    done = run("compile", "resnet18.onnx", "--keep")
    assert done.code == 1
    assert "Wrote resnet18.host.onnx" in done.out
    assert Path("resnet18.host.onnx").read_bytes() == b"kept"


@pytest.mark.usefixtures("model")
def test_errors_have_code_place_and_hint(run: Callable, api: types.ModuleType) -> None:
    error = ModelError("`x` is used before it is made", code="G205", where="m.onnx", hint="sort")
    api.compile = _failing(error)  # type: ignore[attr-defined]
    done = run("compile", "resnet18.onnx")
    assert (done.code, done.out) == (2, "")
    text = "error[G205]: `x` is used before it is made\n  --> m.onnx\n\nhint: sort\n"
    assert done.err == text
    done = run("compile", "resnet18.onnx", "--format", "json")
    assert done.json["error"] == {
        "code": "G205",
        "message": "`x` is used before it is made",
        "where": "m.onnx",
        "hint": "sort",
    }


@pytest.mark.usefixtures("model")
def test_a_fault_of_ours_keeps_its_traceback_for_debug(
    run: Callable, api: types.ModuleType
) -> None:
    api.compile = _failing(ZeroDivisionError("oh"))  # type: ignore[attr-defined]
    done = run("compile", "resnet18.onnx")
    assert done.code == 2
    assert "internal error: ZeroDivisionError: oh" in done.err
    assert "--debug" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in run("compile", "resnet18.onnx", "--debug").err


@pytest.mark.usefixtures("model")
def test_ctrl_c_is_130_and_leaves_nothing(run: Callable, api: types.ModuleType) -> None:
    api.compile = _failing(KeyboardInterrupt())  # type: ignore[attr-defined]
    done = run("compile", "resnet18.onnx")
    assert (done.code, done.out) == (130, "")
    assert "interrupted" in done.err
    assert files() == ["resnet18.onnx"]


@pytest.mark.usefixtures("api", "model")
def test_color_is_only_where_it_is_asked_for(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run("compile", "resnet18.onnx", "--target", "arm")
    assert "\x1b" not in plain.out + plain.err
    colored = run("compile", "resnet18.onnx", "--target", "arm", "--color", "always")
    assert "\x1b[1m" in colored.out
    assert "\x1b[33m" in colored.err
    monkeypatch.setenv("GRAPHOPT_COLOR", "always")
    assert "\x1b" in run("compile", "resnet18.onnx").out
    assert "\x1b" not in run("compile", "resnet18.onnx", "--color", "never").out
