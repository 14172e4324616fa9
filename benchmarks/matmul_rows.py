"""Which kernel is fastest for a product with a constant matrix, by its size and number of rows.

Float MatMul, DynamicQuantizeMatMul and 8-bit MatMulNBits on one thread, interleaved; a figure is
the ratio of the fastest rounds, float / kernel, inputs of 32-bit floats. The thresholds of
graphopt/passes/quantize/quantize_matmuls.py come from here.

    python benchmarks/matmul_rows.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from graphopt import testing
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls, choose_kernel
from graphopt.runtime import open_session, race
from machine import describe

RESULTS = Path(__file__).parent / "results" / "matmul_rows.json"
MATRICES = ((64, 64), (64, 172), (128, 512), (256, 256), (512, 512), (768, 768), (768, 3072))
ROWS = (1, 2, 4, 16, 64, 160)
SECONDS = 0.6


def measure(inner: int, columns: int, rows: int) -> dict[str, object]:
    """Race the three kernels on one product."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((inner, columns)).astype(np.float32)
    model = testing.graph(
        f"m (float[{rows}, {inner}] x) => (float[{rows}, {columns}] y) "
        f"<float[{inner}, {columns}] w> {{ [product] y = MatMul (x, w) }}",
        w=weight,
    )
    sessions = {"float": open_session(model)}
    for mode in ("dynamic", "weight-only"):
        made = model.copy()
        QuantizeMatmuls(mode).run(made, testing.context())
        sessions[mode] = open_session(made)
    feed = {"x": rng.standard_normal((rows, inner)).astype(np.float32)}
    found = race(sessions, [feed], seconds=SECONDS, min_rounds=15, max_rounds=1000)
    speeds = {m: round(found.speedup_of_minima(m, "float"), 2) for m in ("dynamic", "weight-only")}
    best = max({**speeds, "float": 1.0}.items(), key=lambda item: item[1])[0]
    chosen = choose_kernel(rows, inner * columns)
    return {
        "inner": inner,
        "columns": columns,
        "rows": rows,
        "float_us": round(found.timings["float"].min_ms * 1e3, 1),
        **speeds,
        "fastest": best,
        "chosen": chosen,
        "lost": round(1 - speeds.get(chosen, 1.0) / {**speeds, "float": 1.0}[best], 3),
    }


def main() -> None:
    """Measure all sizes, print, and write the results."""
    found = []
    for inner, columns in MATRICES:
        for rows in ROWS:
            found.append(measure(inner, columns, rows))
            print(found[-1], flush=True)
    print("largest loss by the choice:", max(float(str(r["lost"])) for r in found))
    RESULTS.write_text(json.dumps({"machine": describe(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
