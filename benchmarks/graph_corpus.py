"""The corpus of graph_optimisers.py: a name and a file for every model, exported when missing.

Four families: the models of ../shared/data; torchvision's architectures with random weights; small
transformers traced at one size; and the same with open batch and sequence, by torch's exporter of
traced scripts and by its newer one. Usage: graph_corpus.py [--folder PATH] [NAME …].
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torchvision_models
import transformer_models
from torchvision_models import HERE, export_named, export_once, install, kept_at
from workloads import SHARED

if TYPE_CHECKING:
    from pathlib import Path

ONNXSCRIPT = ("onnxscript==0.7.2", "onnx_ir==1.1.0")

OPEN_TRANSFORMERS = tuple(
    f"{name}.{exporter}"
    for name in (
        *("bert", "bert_sdpa", "roberta", "distilbert", "gpt2", "gpt2_past", "llama_gqa"),
        *("llama_gqa_sdpa", "llama_gqa_past", "mistral", "qwen3_past", "gemma2", "phi", "opt"),
        *("t5", "whisper", "vit", "vit_sdpa", "clip", "swin", "segformer", "wav2vec2"),
    )
    for exporter in ("script", "dynamo")
)
"""``_past`` takes keys and values of earlier tokens."""


@dataclass(frozen=True)
class Entry:
    """A model of the corpus.

    Args:
        name: unique in the corpus: architecture, and exporter where there are two.
        family: shared, torchvision, transformers or transformers-open.
    """

    name: str
    family: str

    def file(self, folder: Path) -> Path:
        """Return where the model is, or will be once it is exported."""
        if self.family == "shared":
            return SHARED / "models" / f"{self.name}.onnx"
        prefix, script = _EXPORTS[self.family]
        return kept_at(folder, prefix, HERE / "pruning" / script, self.architecture)

    @property
    def architecture(self) -> str:
        """The exporter's name for it."""
        return self.name.removesuffix(".fixed")

    def export(self, folder: Path) -> tuple[Path, str]:
        """Return the file, and why it is not there, or nothing; exports what is missing."""
        if self.family == "shared":
            return self.file(folder), ""
        if self.family == "torchvision":
            return torchvision_models.export(self.architecture, folder)
        if self.family == "transformers":
            return transformer_models.export(self.architecture, folder)
        return self._export_open(folder)

    def _export_open(self, folder: Path) -> tuple[Path, str]:
        packages = install(
            folder, "transformers", transformer_models.REQUIREMENT, dependencies=True
        )
        translator = install(folder, "onnxscript", *ONNXSCRIPT)
        output = self.file(folder)
        both = f"{packages}{os.pathsep}{translator}"
        script = HERE / "pruning" / _EXPORTS[self.family][1]
        return output, export_once(script, both, self.name, output)


_EXPORTS = {
    "torchvision": ("torchvision", "torchvision_export.py"),
    "transformers": ("transformers", "transformer_export.py"),
    "transformers-open": ("transformers-open", "transformer_dynamic_export.py"),
}


def corpus() -> tuple[Entry, ...]:
    """Return all models: the small families first."""
    return (
        *(Entry(path.stem, "shared") for path in sorted((SHARED / "models").glob("*.onnx"))),
        *(Entry(f"{name}.fixed", "transformers") for name in transformer_models.NAMES),
        *(Entry(name, "transformers-open") for name in OPEN_TRANSFORMERS),
        *(Entry(name, "torchvision") for name in torchvision_models.NAMES),
    )


def _export(name: str, folder: Path) -> tuple[Path, str]:
    return next(e for e in corpus() if e.name == name).export(folder)


if __name__ == "__main__":
    export_named(__doc__, [e.name for e in corpus()], _export)
