"""OnnxSlim's lossless simplification with its defaults: MODEL CALIBRATION.npz OUTPUT."""

from __future__ import annotations

import onnx
import onnxslim
from samples import arguments

if __name__ == "__main__":
    model, _, output = arguments()
    onnx.save(onnxslim.slim(str(model)), output)
