"""Write one small transformer with open sizes as an ONNX file, by one of torch's two exporters.

Runs in a process of its own: ``transformer_dynamic_export.py NAME.EXPORTER OUTPUT``, with torch,
transformers and (for ``dynamo``) onnxscript on the path. Architectures and weights are those of
``transformer_export.py``; batch and sequence are symbolic, and ``NAME_past`` takes keys and values
of earlier tokens and returns them with its own.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from transformer_export import TOKENS, build, inputs
from transformers import DynamicCache

SCRIPT_OPSET = 17
PAST = 5
BATCH = 2
"""More than one, which torch would take for a size that never changes."""

SEQUENCES = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


class Flat(torch.nn.Module):
    """Calls a model by the names of its arguments, past keys and values last; returns tensors."""

    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *given: Any) -> Any:
        """Run the model."""
        known = dict(zip(self.names, given, strict=False))
        past = given[len(self.names) :]
        if past:
            cache = DynamicCache()
            for layer in range(len(past) // 2):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            known |= {"past_key_values": cache, "use_cache": True}
        made = self.model(**known, return_dict=True)
        found = [v for v in made.values() if isinstance(v, torch.Tensor)]
        if past:
            for layer in made.past_key_values.layers:
                found += [layer.keys, layer.values]
        return tuple(found)


def sample(name: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return what the model is traced with: two of everything, and a past where it is asked for."""
    base = name.removesuffix("_past")
    given = {k: torch.cat([v] * BATCH) for k, v in inputs(base).items()}
    if base == name:
        return given
    config: Any = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    given["attention_mask"] = torch.ones(BATCH, TOKENS + PAST, dtype=torch.int64)
    for layer in range(config.num_hidden_layers):
        for kind in ("key", "value"):
            given[f"past_{layer}_{kind}"] = torch.randn(BATCH, heads, PAST, size)
    return given


def axes(name: str, given: dict[str, torch.Tensor]) -> dict[str, dict[int, str]]:
    """Return the open axes of every input, by name."""
    past = name.endswith("_past")
    found: dict[str, dict[int, str]] = {}
    for key in given:
        found[key] = {0: "batch"}
        if key.startswith("past_"):
            found[key][2] = "past"
        elif key in SEQUENCES:
            found[key][1] = "total" if past and key == "attention_mask" else "sequence"
    return found


def export(name: str, exporter: str, output: str) -> None:
    """Write the model to a file."""
    torch.manual_seed(0)
    model = build(name.removesuffix("_past"))
    given = sample(name, model)
    names = [n for n in given if not n.startswith("past_")]
    open_axes = axes(name, given)
    wrapped = Flat(model, names)
    options: dict[str, Any]
    if exporter == "script":
        options = {"dynamo": False, "opset_version": SCRIPT_OPSET, "dynamic_axes": open_axes}
    else:
        shapes = {"given": tuple(open_axes[key] for key in given)}
        options = {"dynamo": True, "external_data": False, "dynamic_shapes": shapes}
    with torch.no_grad():
        torch.onnx.export(
            wrapped, tuple(given.values()), output, input_names=list(given), **options
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    which, _, how = sys.argv[1].rpartition(".")
    export(which, how, sys.argv[2])
