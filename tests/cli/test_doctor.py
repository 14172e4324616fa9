"""`graphopt doctor` on models that onnxruntime's own tools make, and on all that can go wrong."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt import ir
from graphopt.api.diagnosis import MIN_FIX_SNR_DB, Diagnosis, doctor
from graphopt.runtime import open_session
from graphopt.testing import random_feeds, run_cli
from tests.quantized import CASES, CONV, WEIGHT, Case, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
X86 = "x86-avx512-vnni"


@pytest.fixture(scope="module")
def toys() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    logging.disable(logging.CRITICAL)
    try:
        import toy_networks

        yield toy_networks
    finally:
        logging.disable(logging.NOTSET)
        sys.path.remove(str(BENCHMARKS))


class Reader:
    """Feeds for onnxruntime's calibration."""

    def __init__(self, feeds: list[Any]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Any:
        return next(self.feeds, None)


@pytest.fixture
def quantized(toys: Any, tmp_path: Path) -> Any:
    """Quantize one of the toy networks with onnxruntime's tools."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

    class Feeds(Reader, CalibrationDataReader):  # type: ignore[misc]
        pass

    def make(network: str, *, dynamic: bool = False, **options: Any) -> Path:
        model, path = toys.NETWORKS[network](), tmp_path / f"{network}.onnx"
        if dynamic:
            quantize_dynamic(model, path)
        else:
            quantize_static(model, path, Feeds(toys.samples(model)), **options)
        return path

    return make


def counts(found: Diagnosis) -> tuple[int, int]:
    integer = sum(o.execution == "integer" for o in found.operators)
    return integer, len(found.operators)


def codes(found: Diagnosis) -> set[str]:
    return {f.code for f in found.findings}


@pytest.mark.parametrize(
    ("network", "integer", "heavy"),
    [("resnet", 5, 10), ("mobilenet", 18, 22), ("yolo", 1, 14), ("transformer", 8, 16)],
)
def test_defaults_of_quantize_static(
    quantized: Any, network: str, integer: int, heavy: int
) -> None:
    """int8 activations on x86: what fans out runs in float, and the repair is exact."""
    found = doctor(quantized(network), target=X86, measure=False)
    assert counts(found) == (integer, heavy)
    assert {f.node for f in found.findings if f.code == "D108"} >= {
        o.node for o in found.operators if o.execution == "float"
    }
    assert all(o.reason for o in found.operators if o.execution == "float")
    assert found.repaired is not None
    assert found.repaired.integer == heavy
    assert found.repaired.refused is None
    assert found.repaired.snr_db is not None
    assert found.repaired.snr_db > MIN_FIX_SNR_DB
    assert found.repaired.estimated_ms.value < found.estimated_ms.value
    assert sum(f.cost_ms or 0.0 for f in found.findings) > 0.0
    assert codes(doctor(quantized(network), target="arm", measure=False)) <= {"D120"}


def test_dynamic_quantization_of_convolutions(quantized: Any) -> None:
    found = doctor(quantized("resnet", dynamic=True), target=X86, measure=False)
    assert codes(found) == {"D401"}
    assert counts(found) == (10, 10)
    assert {o.kernel for o in found.operators} == {"ConvInteger", "DynamicQuantizeMatMul"} or {
        o.kernel for o in found.operators
    } == {"ConvInteger", "MatMulIntegerToFloat"}
    assert all(f.cost_ms for f in found.findings)
    assert found.repaired is None


def test_dynamic_quantization_of_a_transformer_is_fine(quantized: Any) -> None:
    found = doctor(quantized("transformer", dynamic=True), target=X86, measure=False)
    assert found.findings == ()
    assert counts(found) == (12, 16)
    assert {o.reason for o in found.operators if o.execution == "float"} == {"not quantized"}


def test_trap_of_excluded_nodes(quantized: Any) -> None:
    """Trap (a): the excluded convolution is quantized by the runtime all the same."""
    path = quantized("resnet", nodes_to_exclude=["Conv_4"], per_channel=True)
    found = doctor(path, target="arm", measure=False)
    trapped = [f for f in found.findings if f.code == "D201"]
    assert [f.node for f in trapped] == ["Conv_4"]
    assert trapped[0].fixable
    assert found.repaired is not None
    assert counts(found)[0] - found.repaired.integer == 1


def test_trap_of_matmul_and_bias(quantized: Any) -> None:
    """Trap (b): MatMul only, without a Q behind it."""
    from onnxruntime.quantization import QuantType

    path = quantized(
        "transformer",
        op_types_to_quantize=["MatMul"],
        activation_type=QuantType.QUInt8,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
    )
    found = doctor(path, target=X86, measure=False)
    trapped = {f.node for f in found.findings if f.code == "D117"}
    assert trapped == {o.node for o in found.operators if o.execution == "float"}
    assert len(trapped) == 6
    assert all(f.fixable for f in found.findings if f.code == "D117")
    assert found.repaired is not None
    assert found.repaired.integer == 16


def written(case: Case, folder: Path) -> Path:
    path = folder / "model.onnx"
    ir.save(case.graph(), path)
    return path


def test_trap_of_scales_per_channel(tmp_path: Path) -> None:
    """Trap (c): fused, and then fails at run time."""
    path = written(CASES["per-channel Q behind conv"], tmp_path)
    found = doctor(path, target=X86)
    assert codes(found) == {"D302"}
    assert "QLinearConv" in (found.failure or "")
    mended = doctor(written(CASES["equal vector Q behind conv"], tmp_path), target=X86)
    assert mended.repaired is not None
    assert mended.repaired.opens


def test_trap_of_omitted_zero_points(tmp_path: Path) -> None:
    """Trap (d): legal, and nothing is dropped around what moves data."""
    found = doctor(written(CASES["omitted zero point"], tmp_path), target=X86)
    assert codes(found) == {"D106"}
    assert found.converters == 4
    assert found.repaired is not None
    assert found.repaired.converters == 2


def test_a_model_that_does_not_open_is_diagnosed(tmp_path: Path) -> None:
    path = written(CASES["add with vectors"], tmp_path)
    output = tmp_path / "fixed.onnx"
    done = run_cli("doctor", path, "--target", X86, "--fix", "-o", output)
    assert done.code == 0
    assert "does not run" in done.out
    assert "D301" in done.out
    fixed = ir.load(output)
    open_session(fixed).run(random_feeds(fixed)[0])


def test_a_float_model_gets_a_clear_answer(models: Path) -> None:
    done = run_cli("doctor", models / "digits_resnet.onnx", "--fix")
    assert done.code == 0
    assert "not quantized" in done.out
    assert "graphopt compile" in done.out
    assert not (models / "digits_resnet.fixed.onnx").exists()


def test_fix_writes_a_whole_file_and_leaves_the_input_alone(tmp_path: Path) -> None:
    path = written(CASES["signed residual"], tmp_path)
    before = path.read_bytes()
    done = run_cli("doctor", path, "--fix", "--target", X86)
    assert done.code == 0
    assert path.read_bytes() == before
    output = tmp_path / "model.fixed.onnx"
    assert str(output) in "".join(done.out.split("\n")) or "model.fixed.onnx" in done.out
    assert codes(doctor(output, target=X86)) == set()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.fixed.onnx", "model.onnx"]


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = written(CASES["signed residual"], tmp_path)
    before = path.read_bytes()
    done = run_cli("doctor", path, "--fix", "-o", path)
    assert done.code == 2
    assert "G208" in done.err
    assert path.read_bytes() == before


def test_on_the_host_both_are_timed(tmp_path: Path) -> None:
    path = written(CASES["weight-only conv"], tmp_path)
    done = run_cli("doctor", path)
    assert done.code == 0
    assert "measured in turns on this machine" in done.out
    assert "estimated" in done.out
    assert "measured" not in run_cli("doctor", path, "--no-measure").out


def test_json_has_everything(tmp_path: Path) -> None:
    path = written(CASES["signed residual"], tmp_path)
    done = run_cli("doctor", path, "--target", X86, "--format", "json")
    assert done.code == 0
    found = done.json
    assert found["quantized"] is True
    assert {f["code"] for f in found["findings"]} == {"D108"}
    assert all(f["fixable"] and f["why"] and f["remedy"] for f in found["findings"])
    assert found["operators"][0]["execution"] == "float"
    assert found["repaired"]["integer"] == 1
    assert found["repaired"]["measured"] is None
    assert found["written"] == []
    assert "graph" not in found


def test_nothing_to_repair_is_said(tmp_path: Path) -> None:
    whole = Case("", CONV + pair("c", "y"))
    done = run_cli("doctor", written(whole, tmp_path), "--target", X86, "--fix")
    assert done.code == 0
    assert "Nothing is wrong" in done.out
    assert not (tmp_path / "model.fixed.onnx").exists()
    done = run_cli("doctor", written(CASES["no Q"], tmp_path), "--target", X86)
    assert "Nothing can be repaired exactly" in done.out


def test_saturation_is_of_the_target(tmp_path: Path) -> None:
    path = written(CASES["saturation"], tmp_path)
    assert "D202" in run_cli("doctor", path, "--target", "x86-avx2").out
    plain = run_cli("doctor", path, "--target", X86).out
    assert "D202" not in plain
    assert "could saturate" in plain


def test_mistakes_are_told(tmp_path: Path) -> None:
    assert run_cli("doctor", tmp_path / "none.onnx").code == 2
    path = written(Case("", pair("x", "a") + WEIGHT + "y = Conv (a, dw)"), tmp_path)
    assert run_cli("doctor", path, "-o", tmp_path / "o.onnx").code == 2
    assert run_cli("doctor", path, "--target", "nosuch").code == 2
    assert run_cli("doctor", path, "--fix", "-o", tmp_path / "no" / "o.onnx").code == 2


def test_every_finding_has_a_page() -> None:
    done = run_cli("explain", "D108")
    assert done.code == 0
    assert "uint8" in done.out
