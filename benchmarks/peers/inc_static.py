"""onnx-neural-compressor's static quantization: MODEL CALIBRATION.npz OUTPUT [qdq].

Its defaults (QOperator, per tensor); with ``qdq`` in QDQ format with per-channel weights.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import QuantFormat, config, quantize
from samples import Reader, arguments


class IncReader(Reader, data_reader.CalibrationDataReader):  # type: ignore[misc]
    """Registered as onnx-neural-compressor wants it."""


if __name__ == "__main__":
    model, calibration, output = arguments()
    options: dict[str, Any] = {}
    if "qdq" in sys.argv[4:]:
        options = {"quant_format": QuantFormat.QDQ, "per_channel": True}
    settings = config.StaticQuantConfig(IncReader(calibration), **options)
    with tempfile.TemporaryDirectory() as folder:
        # It writes weights to a second file; the others' models are one file.
        written = Path(folder) / "quantized.onnx"
        quantize(str(model), str(written), settings)
        onnx.save(onnx.load(written), output)
