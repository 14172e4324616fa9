"""Which does onnxruntime run faster: a function spelled out, or the operator of that name?

Every pair races on several shapes in one process, interleaved: one thread, all optimisations. The
faster form is what `fuse-gelu`, `fuse-softmax`, `fuse-activations`, `keep-sums-apart`,
`spell-out-activations`, `replace-hard-swish` and `replace-group-norm` write.

    python benchmarks/operator_spellings.py [--seconds S] [NAME...]

Writes results/operator_spellings.json: microseconds of the fastest rounds, how many times as fast
as the spelling the operator is (medians of ratios within a round), and the kernels that run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.runtime import census, open_session, race
from graphopt.testing import graph
from machine import describe

RESULTS = Path(__file__).parent / "results" / "operator_spellings.json"
SHAPES = ((1, 64, 56, 56), (1, 256, 14, 14), (1, 320, 64, 64))
ROWS = (
    (1, 1, 64),
    (1, 1, 256),
    (1, 1, 768),
    (1, 16, 32),
    (2, 19, 64),
    (1, 128, 256),
    (1, 128, 768),
)
"""Of features, for what normalizes each row."""
CONSTANTS = """float one = {1}, float half = {0.5}, float three = {3}, float zero = {0},
    float root = {1.4142135}, float inverse = {0.70710677}, float cubic = {0.044715},
    float slope = {0.7978846}, float tenth = {0.1}, float two = {2}, float twenty = {20}"""
BY_ERF = "e = Erf(u) p = Add(e, one) m = Mul(x, half) g = Mul(m, p)"
BY_TANH = "d = Mul(c, cubic) i = Add(x, d) u = Mul(i, slope) e = Tanh(u) p = Add(e, one)"

PAIRS: dict[str, tuple[int, str, str]] = {
    "Gelu, Div": (20, f"u = Div(x, root) {BY_ERF}", "g = Gelu(x)"),
    "Gelu, Mul": (20, f"u = Mul(x, inverse) {BY_ERF}", "g = Gelu(x)"),
    "Gelu by tanh, Pow": (
        20,
        f"c = Pow(x, three) {BY_TANH} m = Mul(x, half) g = Mul(m, p)",
        'g = Gelu<approximate = "tanh">(x)',
    ),
    "Gelu by tanh, products": (
        20,
        f"s = Mul(x, x) c = Mul(s, x) {BY_TANH} m = Mul(x, half) g = Mul(m, p)",
        'g = Gelu<approximate = "tanh">(x)',
    ),
    "Sigmoid": (17, "n = Neg(x) e = Exp(n) p = Add(e, one) g = Div(one, p)", "g = Sigmoid(x)"),
    "Relu": (17, "g = Max(x, zero)", "g = Relu(x)"),
    "LeakyRelu": (17, "p = Mul(x, tenth) g = Max(x, p)", "g = LeakyRelu<alpha = 0.1>(x)"),
    "LeakyRelu, PRelu": (17, "g = PRelu(x, tenth)", "g = LeakyRelu<alpha = 0.1>(x)"),
    "PRelu": (
        17,
        "r = Relu(x) n = Neg(x) q = Relu(n) p = Mul(q, column) g = Sub(r, p)",
        "g = PRelu(x, column)",
    ),
    "PRelu, Min": (
        17,
        "r = Relu(x) q = Min(x, zero) p = Mul(q, column) g = Add(r, p)",
        "g = PRelu(x, column)",
    ),
    "Softplus": (17, "e = Exp(x) p = Add(e, one) g = Log(p)", "g = Softplus(x)"),
    "Mish": (18, "s = Softplus(x) t = Tanh(s) g = Mul(x, t)", "g = Mish(x)"),
    "Mish, exponentials": (
        18,
        "l = Min(x, twenty) e = Exp(l) i = Add(e, two) m = Mul(e, i) n = Add(m, two) d = Div(m, n) "
        "g = Mul(x, d)",
        "g = Mish(x)",
    ),
    "HardSwish": (
        14,
        "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) g = Mul(x, s)",
        "g = HardSwish(x)",
    ),
    "Swish": (24, "s = Sigmoid(x) g = Mul(x, s)", "g = Swish(x)"),
    "Softmax": (
        17,
        "m = ReduceMax<axes = [3]>(x) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) "
        "g = Div(e, s)",
        "g = Softmax<axis = 3>(x)",
    ),
    "LogSoftmax": (
        17,
        "m = ReduceMax<axes = [3]>(x) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) l = Log(s) "
        "g = Sub(d, l)",
        "g = LogSoftmax<axis = 3>(x)",
    ),
    "Sum, LayerNormalization": (
        17,
        "s = Sum(x, a) g = LayerNormalization(s, scales, shifts)",
        "s = Add(x, a) g = LayerNormalization(s, scales, shifts)",
    ),
    "GroupNormalization": (
        21,
        "r = Reshape(x, groups) n = InstanceNormalization(r, ones, zeros) k = Reshape(n, sizes) "
        "m = Mul(k, column) g = Add(m, column)",
        "g = GroupNormalization<num_groups = 32>(x, row, row)",
    ),
}


def model(body: str, opset: int, shape: tuple[int, ...]) -> Any:
    """Return a graph that computes ``body`` between two cheap operators, as it does in a model."""
    dims, channels = ",".join(map(str, shape)), shape[1]
    text = f"""m (float[{dims}] a) => (float[{dims}] y) <{CONSTANTS}, float[32] ones,
        float[32] zeros, float[{channels}, 1, 1] column, float[{channels}] row,
        int64[3] groups = {{0, 32, -1}}, int64[1] last = {{3}},
        int64[{len(shape)}] sizes = {{{dims}}}, float[{shape[-1]}] scales,
        float[{shape[-1]}] shifts>
        {{ x = Neg(a) {body} y = Neg(g) }}"""
    return graph(text, opset=opset)


def compare(name: str, shape: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Race the two forms of a function."""
    opset, *bodies = PAIRS[name]
    graphs = dict(
        zip(("spelled", "operator"), (model(b, opset, shape) for b in bodies), strict=True)
    )
    sessions = {form: open_session(made) for form, made in graphs.items()}
    feed = {"a": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    result = race(sessions, [feed], seconds=seconds, min_rounds=11)
    row: dict[str, Any] = {"function": name, "opset": opset, "shape": list(shape)}
    row["operator_speed"] = round(result.speedup("operator", "spelled"), 2)
    for form, made in graphs.items():
        kernels = {k: n for k, n in sorted(census(made).kernels.items()) if k != "Neg"}
        row[form] = {"us": round(result.timings[form].min_ms * 1e3, 1), "kernels": kernels}
    return row


def main() -> None:
    """Compare the functions that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="functions; all by default")
    parser.add_argument("--seconds", type=float, default=1.0, help="for one race")
    given = parser.parse_args()
    machine, rows = describe(), []
    for name in given.names or PAIRS:
        for shape in ROWS if name.endswith(" LayerNormalization") else SHAPES:
            row = compare(name, shape, given.seconds)
            times = f"{row['spelled']['us']:9.1f} {row['operator']['us']:9.1f}"
            print(f"{name:24} {shape!s:18} {times} us  x{row['operator_speed']:.2f}", flush=True)
            rows.append(row)
    if not given.names:
        RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
