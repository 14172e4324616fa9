"""onnxsim's static quantizer after its simplification: MODEL CALIBRATION.npz OUTPUT [full].

With ``full`` every activation is quantized, not only the inputs of Conv, Gemm and MatMul.
"""

from __future__ import annotations

import sys

import onnx
import onnxsim
from samples import arguments, load

if __name__ == "__main__":
    model, calibration, output = arguments()
    simplified = onnxsim.simplify(str(model))[0]
    quantized = onnxsim.quantize_static(
        simplified, calibration_data=load(calibration), full_graph="full" in sys.argv[4:]
    )
    onnx.save(quantized, output)
