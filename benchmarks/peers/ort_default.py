"""onnxruntime's quantize_static with its defaults: MODEL CALIBRATION.npz OUTPUT."""

from __future__ import annotations

from onnxruntime.quantization import CalibrationDataReader, quantize_static
from samples import Reader, arguments


class OrtReader(Reader, CalibrationDataReader):  # type: ignore[misc]
    """Registered as onnxruntime wants it."""


if __name__ == "__main__":
    model, calibration, output = arguments()
    quantize_static(str(model), str(output), OrtReader(calibration))
