"""Weight-only quantization of a trained decoder, against onnxruntime's own RTN and HQQ.

Calibrated on the first half of the token sequences, judged on the other half: how often the most
likely next token is fp32's (agreement) and the true one (accuracy), and the perplexity, which is
exp of the mean cross entropy in nats. Every model has the same matrices in 4 bits with the same
block size, and computes in float (accuracy level unset), except where the name says otherwise.
Differences from a peer are paired by sequence, with 95 % intervals (normal approximation).

    python benchmarks/weight_only.py --peer PYTHON [--bits 4] [--blocks 16,32,64,128]

PYTHON is the interpreter of an environment with onnxruntime, onnx, onnx_ir and torch, which
onnxruntime's quantizer needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "weight_only.json"
MODEL = HERE.parents[1] / "shared" / "data" / "models" / "stories260k_decoder.onnx"
TOKENS = HERE.parents[1] / "shared" / "data" / "data" / "stories260k_tokens.npz"

Array = np.ndarray[Any, Any]

OURS: dict[str, tuple[bool, dict[str, Any]]] = {
    "rtn": (False, {"method": "rtn"}),
    "hqq, fractional zero points": (False, {"method": "hqq", "zero_points": "fractional"}),
    "search": (False, {"method": "search"}),
    "search, fractional zero points": (False, {"method": "search", "zero_points": "fractional"}),
    "auto without data": (False, {}),
    "search with data": (True, {"method": "search"}),
    "awq": (True, {"method": "awq"}),
    "gptq": (True, {"method": "gptq"}),
    "descent": (True, {"method": "descent"}),
    "auto": (True, {}),
    "auto, symmetric": (True, {"symmetric": True}),
    "auto, 8-bit activations": (True, {"accuracy_level": 4}),
}
"""Whether data are given, and the options of quantize-weights."""


def quantize_peers(folder: Path, bits: int, blocks: list[int]) -> None:
    """Write the peers' models; runs in the peers' own environment."""
    import logging

    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as peer

    logging.disable(logging.INFO)
    for block in blocks:
        configs = {
            "rtn": peer.DefaultWeightOnlyQuantConfig(block_size=block, bits=bits),
            "hqq": peer.HQQWeightOnlyQuantConfig(block_size=block, bits=bits),
        }
        for name, config in configs.items():
            made = peer.MatMulNBitsQuantizer(onnx.load(MODEL), algo_config=config)
            made.process()
            made.model.save_model_to_file(str(folder / f"{name}-{block}.onnx"))


def logits_of(session: Any, sequences: Array) -> Array:
    """Return float64 [sequences, tokens, vocabulary]."""
    found = [session.run({"input_ids": ids[None]})[0] for ids in sequences]
    return np.concatenate(found).astype(np.float64)


def per_sequence(logits: Array, reference: Array, sequences: Array) -> dict[str, Array]:
    """Return agreement and accuracy in points and cross entropy in nats, of each sequence."""
    predicted, wanted, truth = logits[:, :-1], reference[:, :-1], sequences[:, 1:]
    highest = predicted.max(axis=-1, keepdims=True)
    total = np.log(np.exp(predicted - highest).sum(axis=-1)) + highest[..., 0]
    chosen = np.take_along_axis(predicted, truth[..., None], axis=-1)[..., 0]
    return {
        "agreement": 100 * (predicted.argmax(-1) == wanted.argmax(-1)).mean(axis=1),
        "accuracy": 100 * (predicted.argmax(-1) == truth).mean(axis=1),
        "cross_entropy": (total - chosen).mean(axis=1),
    }


def summary(scores: dict[str, Array], peers: dict[str, dict[str, Array]]) -> dict[str, Any]:
    """Return the measures, and the paired differences from each peer."""
    row: dict[str, Any] = {k: round(float(v.mean()), 3) for k, v in scores.items()}
    row["perplexity"] = round(float(np.exp(scores["cross_entropy"].mean())), 4)
    for name, other in peers.items():
        row[f"against {name}"] = {
            key: difference(scores[key], other[key]) for key in ("agreement", "cross_entropy")
        }
    return row


def difference(ours: Array, theirs: Array) -> list[float]:
    """Return the mean difference and the half width of its 95 % interval."""
    found = ours - theirs
    half = 1.96 * found.std(ddof=1) / np.sqrt(len(found))
    return [round(float(found.mean()), 4), round(float(half), 4)]


def measure(folder: Path, bits: int, blocks: list[int]) -> dict[str, Any]:
    """Quantize with every method and score everything."""
    from graphopt import ir
    from graphopt.passes.quantize.quantize_weights import QuantizeWeights
    from graphopt.runtime import open_session
    from graphopt.testing import context

    with np.load(TOKENS) as data:
        tokens = data["ids"].astype(np.int64)
    calibration, sequences = np.split(tokens, 2)
    original = ir.load(MODEL)
    reference = logits_of(open_session(original), sequences)
    rows: dict[str, Any] = {"fp32": summary(per_sequence(reference, reference, sequences), {})}
    for block in blocks:
        peers = {
            name: per_sequence(
                logits_of(open_session(folder / f"{name}-{block}.onnx"), sequences),
                reference,
                sequences,
            )
            for name in ("rtn", "hqq")
        }
        rows |= {f"onnxruntime {n}, block {block}": summary(s, {}) for n, s in peers.items()}
        for name, (with_data, options) in OURS.items():
            settings = {"accuracy_level": 0, "embedding_bits": 0, **options}
            step = QuantizeWeights(bits=bits, block_size=block, **settings)
            graph = original.copy()
            data = {"input_ids": calibration} if with_data else None
            step.run(graph, context(data=data, model=original))
            logits = logits_of(open_session(graph), sequences)
            scores = per_sequence(logits, reference, sequences)
            rows[f"graphopt {name}, block {block}"] = summary(scores, peers)
            print_row(f"graphopt {name}, block {block}", rows[f"graphopt {name}, block {block}"])
    return rows


def print_row(name: str, row: dict[str, Any]) -> None:
    """Print one line of the table."""
    print(
        f"{name:52} agreement {row['agreement']:6.2f}  accuracy {row['accuracy']:6.2f}  "
        f"perplexity {row['perplexity']:.4f}",
        flush=True,
    )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--blocks", default="16,32,64,128")
    parser.add_argument("--quantize-peers", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    blocks = [int(b) for b in arguments.blocks.split(",")]
    if arguments.quantize_peers:
        quantize_peers(arguments.quantize_peers, arguments.bits, blocks)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [arguments.peer, __file__, "--quantize-peers", str(folder)]
        command += ["--bits", str(arguments.bits), "--blocks", arguments.blocks]
        subprocess.run(command, check=True)
        rows = measure(folder, arguments.bits, blocks)
    for key, row in rows.items():
        if not key.startswith("graphopt"):
            print_row(key, row)
    from machine import describe

    found = {"machine": describe(), "bits": arguments.bits, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
