"""What onnxruntime users run today: quant_pre_process, then quantize_static (u8s8 per channel).

python benchmarks/peer_quantize_static.py MODEL CALIBRATION.npz OUTPUT
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class NpzReader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds one row of every array at a time."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as data:
            self.arrays = {key: data[key] for key in data.files}
        self.position = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next sample, or None."""
        if self.position >= len(next(iter(self.arrays.values()))):
            return None
        self.position += 1
        return {k: v[self.position - 1 : self.position] for k, v in self.arrays.items()}


def quantize(model: Path, calibration: Path, output: Path) -> None:
    """Write the peer's model; its own exceptions pass through."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(str(model), str(prepared))
        except Exception:
            # What its message tells the user to do.
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(output),
            NpzReader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


if __name__ == "__main__":
    quantize(*(Path(argument) for argument in sys.argv[1:4]))
