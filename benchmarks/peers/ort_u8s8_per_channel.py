"""What onnxruntime's guide advises for x86: MODEL CALIBRATION.npz OUTPUT.

quant_pre_process, then quantize_static: QDQ, unsigned activations, signed weights per channel.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from samples import Reader, arguments


class OrtReader(Reader, CalibrationDataReader):  # type: ignore[misc]
    """Registered as onnxruntime wants it."""


def prepare(model: Path, output: Path) -> None:
    """Pre-process; where symbolic shapes fail, do what the error message advises."""
    try:
        quant_pre_process(str(model), str(output))
    except Exception:
        quant_pre_process(str(model), str(output), skip_symbolic_shape=True)


if __name__ == "__main__":
    model, calibration, output = arguments()
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare(model, prepared)
        quantize_static(
            str(prepared),
            str(output),
            OrtReader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
