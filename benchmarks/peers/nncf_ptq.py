"""NNCF's post-training quantization with its defaults: MODEL CALIBRATION.npz OUTPUT [transformer].

The fourth argument selects the model type that NNCF's guide asks for on transformers.
"""

from __future__ import annotations

import sys

import nncf
import onnx
from samples import arguments, load

if __name__ == "__main__":
    model, calibration, output = arguments()
    kind = nncf.ModelType.TRANSFORMER if "transformer" in sys.argv[4:] else None
    quantized = nncf.quantize(onnx.load(model), nncf.Dataset(load(calibration)), model_type=kind)
    onnx.save(quantized, output)
