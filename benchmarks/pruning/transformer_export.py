"""Write one small transformer with random weights as an ONNX file.

Runs in a process of its own: ``transformer_export.py NAME OUTPUT``, with torch and transformers on
the path. The architectures are the library's own, with few layers and few features; weights are
drawn so that biases and scales are neither zero nor one.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from typing import Any

import torch
import transformers
from torchvision_export import draw_weights

OPSET = 17
TOKENS = 16
VOCABULARY = 300

WIDTH = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = WIDTH | {"vocab_size": VOCABULARY, "intermediate_size": 128, "max_position_embeddings": 64}
IMAGE = WIDTH | {"intermediate_size": 128, "image_size": 32, "patch_size": 8}
GROUPED = TEXT | {"num_attention_heads": 8, "num_key_value_heads": 2}

ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", TEXT),
    "minilm": ("BertModel", "BertConfig", TEXT | {"hidden_size": 96, "num_attention_heads": 12}),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", TEXT),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    ),
    "albert": ("AlbertModel", "AlbertConfig", TEXT | {"embedding_size": 32}),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "llama_gqa": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "llama_mqa": ("LlamaForCausalLM", "LlamaConfig", GROUPED | {"num_key_value_heads": 1}),
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED | {"sliding_window": 8}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", GROUPED | {"head_dim": 16}),
    "phi": ("PhiForCausalLM", "PhiConfig", TEXT),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        WIDTH | {"vocab_size": VOCABULARY, "ffn_dim": 128, "max_position_embeddings": 64},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2}
        | {"num_heads": 4},
    ),
    "vit": ("ViTForImageClassification", "ViTConfig", IMAGE),
    "deit": ("DeiTModel", "DeiTConfig", IMAGE),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": TEXT, "vision_config": IMAGE}),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depths": [2, 2]}
        | {"num_heads": [2, 4], "window_size": 4},
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "decoder_hidden_size": 32},
    ),
    "whisper": (
        "WhisperModel",
        "WhisperConfig",
        {"vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128}
        | {"decoder_ffn_dim": 128, "num_mel_bins": 20, "max_source_positions": 16}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    ),
    "wav2vec2": (
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        WIDTH
        | {"vocab_size": 32, "intermediate_size": 128, "conv_dim": [32, 32], "conv_kernel": [10, 3]}
        | {"conv_stride": [5, 2], "num_conv_pos_embeddings": 16}
        | {"num_conv_pos_embedding_groups": 4},
    ),
}
"""By name: the class, its configuration, what is set in it."""

CACHED = ("gpt2", "llama", "mistral", "qwen", "gemma", "phi", "opt", "t5", "whisper")


def build(name: str) -> torch.nn.Module:
    """Return the model with drawn weights; ``NAME_sdpa`` has torch's fused attention."""
    base = name.removesuffix("_sdpa")
    model, config, options = ARCHITECTURES[base]
    implementation = "sdpa" if name.endswith("_sdpa") else "eager"
    settings = getattr(transformers, config)(**options)
    settings._attn_implementation = implementation
    if base.startswith(CACHED):
        settings.use_cache = False
    made = getattr(transformers, model)(settings).eval()
    draw_weights(made, torch.Generator().manual_seed(zlib.crc32(name.encode())))
    return made  # type: ignore[no-any-return]


def inputs(name: str) -> dict[str, Any]:
    """Return what the model is traced with, by the name of its argument."""
    tokens = torch.randint(3, VOCABULARY, (1, TOKENS))
    mask = torch.ones_like(tokens)
    if name.startswith("whisper"):
        features = torch.randn(1, 20, 32)
        return {
            "input_features": features,
            "decoder_input_ids": tokens,
            "decoder_attention_mask": mask,
        }
    if name.startswith("wav2vec2"):
        return {"input_values": torch.randn(1, 400)}
    if name.startswith(("swin", "segformer")):
        return {"pixel_values": torch.randn(1, 3, 64, 64)}
    if name.startswith(("vit", "deit")):
        return {"pixel_values": torch.randn(1, 3, 32, 32)}
    if name.startswith("clip"):
        return {
            "input_ids": tokens,
            "pixel_values": torch.randn(1, 3, 32, 32),
            "attention_mask": mask,
        }
    if name.startswith("t5"):
        return {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": tokens}
    return {"input_ids": tokens, "attention_mask": mask}


class Named(torch.nn.Module):
    """Calls a model by the names of its arguments, and returns its tensors flat."""

    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *given: Any) -> Any:
        """Run the model."""
        made = self.model(**dict(zip(self.names, given, strict=True)), return_dict=True)
        return tuple(v for v in made.values() if isinstance(v, torch.Tensor))


def export(name: str, output: str) -> None:
    """Write the model to a file."""
    torch.manual_seed(0)
    model, given = build(name), inputs(name)
    names = list(given)
    with torch.no_grad():
        torch.onnx.export(
            Named(model, names),
            tuple(given.values()),
            output,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    export(sys.argv[1], sys.argv[2])
