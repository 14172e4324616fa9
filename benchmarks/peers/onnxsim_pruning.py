"""onnxsim's structured pruning: MODEL CALIBRATION.npz FOLDER l2|wanda RATIO...

Each ratio is written to FOLDER/RATIO.onnx; `wanda` ranks channels with the calibration samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxsim.pruning import apply_structured_pruning, apply_structured_wanda_pruning
from samples import load

SAMPLES = 32

if __name__ == "__main__":
    model, calibration, folder = (Path(argument) for argument in sys.argv[1:4])
    original = onnx.load(model)
    for ratio in sys.argv[5:]:
        if sys.argv[4] == "wanda":
            feeds = load(calibration)[:SAMPLES]
            made = apply_structured_wanda_pruning(
                original, calibration_data=feeds, sparsity=float(ratio)
            )
        else:
            made = apply_structured_pruning(original, sparsity=float(ratio))
        onnx.save(made, folder / f"{ratio}.onnx")
