"""onnxruntime's quantize_dynamic with its defaults: MODEL CALIBRATION.npz OUTPUT."""

from __future__ import annotations

from onnxruntime.quantization import quantize_dynamic
from samples import arguments

if __name__ == "__main__":
    model, _, output = arguments()
    quantize_dynamic(str(model), str(output))
