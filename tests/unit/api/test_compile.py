"""``graphopt.compile`` on the shipped models: sources, data, targets, and what the report holds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import CODES, GraphOptError, LimitError, ModelError
from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.recipe import parse_recipe
from graphopt.registry import BUILTIN_PLUGINS, Registry
from graphopt.runtime import census, open_session
from graphopt.testing import assert_same_outputs, graph, named_target
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.report import Notice, PassRecord

MODELS = ("digits_resnet", "waveform_transformer")
DATA = {"digits_resnet": "digits.npz", "waveform_transformer": "waveforms.npz"}
TARGETS = ("host", "arm", "x86", "arm64-neon", "x86-avx-vnni", "mcu", "cortex-m4", "wasm")


@pytest.fixture(scope="session")
def compiled(models: Path) -> Callable[..., Compiled]:
    """Return a function that compiles a shipped model once per set of arguments."""
    done: dict[tuple[Any, ...], Compiled] = {}

    def run(name: str = MODELS[0], target: str = "arm", **options: Any) -> Compiled:
        key = (name, target, *sorted((k, str(v)) for k, v in options.items()))
        if key not in done:
            done[key] = graphopt.compile(
                models / f"{name}.onnx", target=target, data=models / DATA[name], **options
            )
        return done[key]

    return run


@pytest.mark.parametrize(
    ("name", "target"),
    [*((MODELS[0], target) for target in TARGETS), (MODELS[1], "host"), (MODELS[1], "arm")],
)
def test_every_target_gets_a_model_that_runs_and_agrees(
    compiled: Callable, models: Path, name: str, target: str
) -> None:
    made = compiled(name, target, measure=False)
    ir.verify(made.graph)
    assert isinstance(made.graph, graphopt.Graph)
    with np.load(models / DATA[name]) as held:
        key = next(k for k in held.files if k != "labels")
        batch = held[key][:16].astype(np.float32)
    original = open_session(models / f"{name}.onnx")
    (given, _, _) = original.inputs[0]
    wanted = original.run({given: batch})[0]
    found = made.session().run({given: batch})[0]
    assert np.isfinite(found).all()
    agreement = float((wanted.argmax(-1) == found.argmax(-1)).mean())
    assert agreement >= 0.9
    assert made.report.target == ("host" if target == "host" else named_target(target).name)


@pytest.mark.parametrize("name", MODELS)
def test_the_host_is_measured_and_never_slower(compiled: Callable, name: str) -> None:
    made = compiled(name, "host")
    latency = next(f for f in made.report.figures if f.name == "latency")
    if any(n.code == "W501" for n in made.report.notices):
        assert made.report.result.digest == made.report.source.digest
        return
    assert latency.source == "measured"
    assert latency.low <= latency.high
    ratios = re.search(r"([\d.]+)x the original's speed \(([\d.]+)x by minima\)", latency.basis)
    assert ratios is not None
    assert max(float(r) for r in ratios.groups()) >= 0.97
    assert {c.source for c in made.report.candidates} == {"measured"}
    assert sum(c.chosen for c in made.report.candidates) == 1


@pytest.mark.parametrize("target", ["host", "arm"])
def test_without_measuring_everything_is_estimated(compiled: Callable, target: str) -> None:
    made = compiled(target=target, measure=False)
    latency = next(f for f in made.report.figures if f.name == "latency")
    assert latency.source == "estimated"
    assert latency.low < latency.after < latency.high
    assert {c.source for c in made.report.candidates} == {"estimated"}


def test_measuring_a_foreign_target_is_not_pretended(compiled: Callable) -> None:
    made = compiled(target="arm", measure=True)
    assert {c.source for c in made.report.candidates} == {"estimated"}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["host", "arm"])
def test_the_report_says_what_the_runtime_executes(
    compiled: Callable, name: str, target: str
) -> None:
    made = compiled(name, target, measure=False, recipe="integer")
    heavy = census(made.graph, named_target(target)).heavy
    assert [(o.node, o.kernel, o.execution == "integer") for o in made.report.operators] == [
        (e.node, e.kernel, e.integer) for e in heavy
    ]
    assert all((o.reason is None) == (o.execution == "integer") for o in made.report.operators)


def test_the_report_is_complete_valid_json(compiled: Callable, models: Path) -> None:
    made = compiled(target="arm")
    data = json.loads(made.to_json())
    assert set(data) == {
        "graphopt", "versions", "machine", "target", "source", "result", "recipe", "passes",
        "operators", "figures", "candidates", "explanations", "notices", "calibration", "precision",
        "pruning", "layers", "kernels", "sensitivity", "validation", "recovery", "seconds",
    }  # fmt: skip
    assert set(data["versions"]) >= {"onnx", "onnxruntime", "numpy"}
    assert data["machine"]["isa"]
    assert data["source"]["path"] == str(models / "digits_resnet.onnx")
    assert data["source"]["size_bytes"] == (models / "digits_resnet.onnx").stat().st_size
    assert data["result"]["digest"] == ir.structural_hash(made.graph)
    assert data["result"]["size_bytes"] == pytest.approx(len(made.to_bytes()), rel=0.01)
    assert [p["name"] for p in data["passes"]] == [
        e.use for e in parse_recipe(data["recipe"]).passes
    ]
    assert {f["name"] for f in data["figures"]} >= {"size", "latency", "activation memory"}
    assert data["calibration"]["held_out"] > 0
    assert data["calibration"]["samples"] + data["calibration"]["held_out"] <= 144
    assert len(data["calibration"]["digest"]) == 32
    assert data["seconds"] > 0


def test_infinite_figures_are_null_in_json(models: Path) -> None:
    made = graphopt.compile(models / "digits_resnet.onnx", recipe="lossless", measure=False)
    assert "Infinity" not in made.to_json()
    assert "NaN" not in made.to_json()


def test_without_data_the_result_is_exact_and_the_report_says_what_data_would_add(
    models: Path,
) -> None:
    path = models / "digits_resnet.onnx"
    made = graphopt.compile(path, target="arm")
    assert [n.code for n in made.report.notices] == ["W211"]
    assert "--data" in (made.report.notices[0].hint or "")
    assert made.report.calibration is None
    assert {o.reason for o in made.report.operators} == {"no data: ranges are unknown"}
    feeds = [{"input": np.random.default_rng(0).random((3, 1, 16, 16), np.float32)}]
    assert_same_outputs(ir.load(path), made.graph, feeds, rtol=0.0, atol=1e-4)


# -- sources and data ----------------------------------------------------------------------


def test_a_path_bytes_and_a_graph_give_the_same_model(compiled: Callable, models: Path) -> None:
    path = models / "digits_resnet.onnx"
    reference = compiled(target="arm").to_bytes()
    for source in (str(path), path.read_bytes(), ir.load(path)):
        made = graphopt.compile(source, target="arm", data=models / "digits.npz")
        assert made.to_bytes() == reference


def test_a_graph_that_is_given_is_not_modified(models: Path) -> None:
    given = ir.load(models / "digits_resnet.onnx")
    before, text = ir.structural_hash(given), ir.to_bytes(given)
    made = graphopt.compile(given, target="arm", data=models / "digits.npz")
    assert ir.structural_hash(given) == before
    assert ir.to_bytes(given) == text
    assert made.graph is not given
    assert given.metadata.get("graphopt.target") is None


def test_data_as_array_mapping_list_and_generator_is_the_same_data(
    compiled: Callable, models: Path
) -> None:
    with np.load(models / "digits.npz") as held:
        images = held[next(k for k in held.files if k != "labels")]
    feeds = [{"input": image[None].astype(np.float32)} for image in images]

    def generator() -> Iterator[dict[str, np.ndarray]]:
        yield from feeds

    reference = compiled(target="arm").to_bytes()
    for data in (images, {"input": images}, feeds, generator, generator()):
        made = graphopt.compile(models / "digits_resnet.onnx", target="arm", data=data)
        assert made.to_bytes() == reference


# -- repeating -----------------------------------------------------------------------------


def test_the_recipe_of_the_report_repeats_the_result_byte_for_byte(
    compiled: Callable, models: Path, tmp_path: Path
) -> None:
    first = compiled(target="host")
    recipe = tmp_path / "again.toml"
    recipe.write_text(first.report.recipe, encoding="utf-8")
    again = graphopt.compile(models / "digits_resnet.onnx", recipe=recipe, measure=False)
    assert again.to_bytes() == first.to_bytes()
    assert again.report.recipe == first.report.recipe


def test_save_writes_model_and_report_and_never_the_input(
    compiled: Callable, models: Path, tmp_path: Path
) -> None:
    made = compiled(target="arm")
    written = made.save(tmp_path / "out.onnx")
    assert [p.name for p in written] == ["out.onnx", "out.json"]
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(made.to_json())
    assert (tmp_path / "out.onnx").read_bytes() == made.to_bytes()
    reloaded = ir.load(tmp_path / "out.onnx")
    assert ir.structural_hash(reloaded) == ir.structural_hash(made.graph)
    assert reloaded.metadata["graphopt.target"] == "arm64-dotprod"
    with pytest.raises(ModelError) as raised:
        made.save(models / "digits_resnet.onnx")
    assert raised.value.code == "G208"


# -- what goes wrong -----------------------------------------------------------------------


@dataclass(frozen=True)
class Spoil:
    """A plugin's pass that claims to be exact and is not."""

    name: ClassVar[str] = "spoil"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        node = graph.nodes("Relu")[0]
        node.op = "Abs"
        return PassResult(True)


class SpoilPlugin:
    @hookimpl
    def graphopt_register_passes(self) -> list[type[Any]]:
        return [Spoil]


RECIPE = """version = 1
target = "arm"
[[passes]]
use = "spoil"
[[passes]]
use = "fuse-conv-batchnorm"
"""


@pytest.fixture
def spoilt() -> Registry:
    return Registry(builtins=[*BUILTIN_PLUGINS, SpoilPlugin()], plugins=())


def test_a_pass_that_lies_is_named_and_the_compile_goes_on(
    models: Path, spoilt: Registry, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE)
    path = models / "digits_resnet.onnx"
    made = graphopt.compile(path, recipe=recipe, registry=spoilt)
    assert [(p.name, p.status) for p in made.report.passes] == [
        ("spoil", "rolled back"),
        ("fuse-conv-batchnorm", "changed"),
    ]
    notice = made.report.notices[0]
    assert notice.code == "G303"
    assert "`spoil` changed the outputs" in notice.message
    clean = graphopt.compile(
        path, recipe=parse_recipe(RECIPE.replace('[[passes]]\nuse = "spoil"\n', ""))
    )
    assert made.to_bytes() == clean.to_bytes()
    with pytest.raises(GraphOptError) as raised:
        graphopt.compile(path, recipe=recipe, registry=spoilt, strict=True)
    assert raised.value.code == "G303"


def test_a_fault_in_quantization_costs_quantization_and_nothing_else(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: InsertQdq, graph: Graph, context: Context) -> PassResult:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(InsertQdq, "run", broken)
    path, data = models / "digits_resnet.onnx", models / "digits.npz"
    made = graphopt.compile(path, target="arm", data=data)
    failed = [p.name for p in made.report.passes if p.status == "rolled back"]
    assert failed == ["insert-qdq"]
    assert [n.code for n in made.report.notices] == ["W504", "G301"]
    with pytest.raises(GraphOptError, match="oops"):
        graphopt.compile(path, target="arm", data=data, strict=True)


def test_a_fault_of_the_planner_is_told_and_the_model_is_quantized(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("graphopt.planner.choice.choose_plan", broken)
    made = graphopt.compile(models / "digits_resnet.onnx", target="arm", data=models / "digits.npz")
    (notice,) = made.report.notices
    assert notice.code == "W504"
    assert "ZeroDivisionError: oops" in notice.message
    assert made.graph.nodes("QuantizeLinear")


def test_a_stated_drop_that_cannot_be_planned_for_is_an_error(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("graphopt.planner.precision.keep_accuracy", broken)
    with np.load(models / "digits.npz") as stored:
        data = {name: stored[name] for name in stored.files}
    data["labels"] = np.arange(len(next(iter(data.values())))) % 10
    with pytest.raises(GraphOptError, match="stated drop could not be kept") as raised:
        graphopt.compile(
            models / "digits_resnet.onnx",
            target="arm",
            data=data,
            recipe="integer",
            overrides=["limits.max-drop=1.0"],
        )
    assert (raised.value.code, raised.value.where) == ("G301", "limits.max-drop")


def test_a_budget_that_nothing_meets_leaves_the_model_exact(compiled: Callable) -> None:
    made = compiled(target="arm", overrides=["limits.min-snr-db=200"])
    assert not made.graph.nodes("QuantizeLinear")
    assert 'placement = "float"' in made.report.recipe
    assert all("below the limit of 200 dB" in c.why for c in made.report.candidates)
    forced = compiled(target="arm", recipe="integer", overrides=["limits.min-snr-db=200"])
    assert [n.code for n in forced.report.notices] == ["W306"]
    assert not forced.graph.nodes("QuantizeLinear")


BIG = """m (float[1, 1024] x) => (float[1, 1024] y) <float[1024, 1024] w> {
  a = MatMul (x, w)
  y = Relu (a) }"""


def test_a_model_that_the_target_cannot_hold_is_said_so_with_the_model_at_hand() -> None:
    with pytest.raises(LimitError) as raised:
        graphopt.compile(graph(BIG), target="cortex-m7")
    error = raised.value
    assert (error.code, error.exit_code) == ("G503", 1)
    assert "4096 KiB" in error.message or "4097 KiB" in error.message
    assert error.compiled is not None
    assert error.compiled.session().run({"x": np.zeros((1, 1024), np.float32)})


def test_unknown_names_are_errors_with_their_codes(models: Path) -> None:
    path = models / "digits_resnet.onnx"
    cases: list[tuple[str, dict[str, Any]]] = [
        ("G501", {"target": "amr"}),
        ("G106", {"recipe": "nosuch"}),
        ("G104", {"overrides": ["insert-qdq.wieghts=int8"]}),
        ("G105", {"overrides": ["insert-qdp.placement=float"]}),
        ("G205", {"explain": ["no such node"]}),
    ]
    for code, given in cases:
        with pytest.raises(GraphOptError) as raised:
            graphopt.compile(path, **given)
        assert raised.value.code == code
        assert code in CODES


def test_observers_are_told_what_the_report_says(models: Path) -> None:
    told: list[Any] = []

    class Watch:
        def pass_started(self, name: str) -> None:
            told.append(name)

        def pass_finished(self, record: PassRecord) -> None:
            told.append(record)

        def progress(self, label: str, done: int, total: int) -> None:
            assert done >= 0
            assert label

        def notice(self, notice: Notice) -> None:
            told.append(notice)

    made = graphopt.compile(
        models / "digits_resnet.onnx", target="arm", data=models / "digits.npz", observe=Watch()
    )
    names = [t for t in told if isinstance(t, str) and not t.startswith("(")]
    records = [t for t in told if not isinstance(t, str)]
    assert names == [p.name for p in made.report.passes]
    assert records == list(made.report.passes)


def test_the_graph_after_a_pass_can_be_dumped_as_text(models: Path, tmp_path: Path) -> None:
    graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        dump_after="fuse-conv-batchnorm",
        dump_dir=tmp_path / "dump",
    )
    text = (tmp_path / "dump" / "fuse-conv-batchnorm.txt").read_text()
    assert "BatchNormalization" not in text
    assert "Conv" in text
