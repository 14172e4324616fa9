"""Small transformers of the usual kinds as ONNX files with random weights.

The architectures are those of the ``transformers`` package, two layers of 64 features each, which
is installed into a folder of its own. Every file is made in a process of its own and kept.
Usage: transformer_models.py [--folder PATH] [NAME …].
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torchvision_models import HERE, default_folder, export_once, install, kept_at

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


def main() -> None:
    """Export what the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    for name in options.names or NAMES:
        path, reason = export(name, options.folder)
        print(f"{name}: {reason or path}", flush=True)


if __name__ == "__main__":
    main()
