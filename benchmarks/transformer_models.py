"""Small transformers of the usual kinds as ONNX files with random weights.

The architectures are those of the ``transformers`` package, two layers of 64 features each, which
is installed into a folder of its own. Every file is made in a process of its own and kept.
Usage: transformer_models.py [--folder PATH] [NAME …].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision_models import HERE, export_named, export_once, install, kept_at

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENT = "transformers==5.23.0"

NAMES = (
    *("bert", "bert_sdpa", "minilm", "roberta", "distilbert", "albert"),
    *("gpt2", "gpt2_sdpa", "llama_gqa", "llama_gqa_sdpa", "llama_mqa", "mistral", "qwen2"),
    *("qwen3", "gemma2", "phi", "opt", "t5", "vit", "vit_sdpa", "deit", "clip", "swin"),
    *("segformer", "whisper", "wav2vec2"),
)


def export(name: str, folder: Path) -> tuple[Path, str]:
    """Return the file of a model, and why it is not there, or nothing."""
    script = HERE / "pruning" / "transformer_export.py"
    output = kept_at(folder, "transformers", script, name)
    packages = install(folder, "transformers", REQUIREMENT, dependencies=True)
    return output, export_once(script, packages, name, output)


if __name__ == "__main__":
    export_named(__doc__, NAMES, export)
