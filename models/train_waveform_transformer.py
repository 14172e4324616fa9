"""Train `waveform_transformer.onnx`, a transformer encoder that names noisy waveforms.

Run `python models/train_waveform_transformer.py`; it needs torch and writes
`waveform_transformer.onnx`, `waveforms.npz` and `waveforms_test.npz` beside itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from onnx_export import (
    CALIBRATION_SAMPLES,
    FOLDER,
    check_agreement,
    export,
    fit,
    save_data,
    seed_everything,
)
from torch import Tensor, nn
from waveforms import CLASSES, FRAME, FRAMES, generate

SEED = 7
TRAIN_SAMPLES, TEST_SAMPLES = 6000, 1000
EPOCHS = 40
MIN_FRAMES = 20  # shortest crop seen in training
WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 128, 2


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, T, WIDTH] to [N, T, WIDTH]: softmax(q k' / sqrt(d)) v, per head."""
        batch, length, _ = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2)
        return self.output(mixed.reshape(batch, length, WIDTH))


class EncoderLayer(nn.Module):
    """Pre-norm encoder layer: attention and a Gelu MLP, each with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.expand = nn.Linear(WIDTH, HIDDEN)
        self.gelu = nn.GELU()
        self.contract = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, T, WIDTH] to [N, T, WIDTH]."""
        x = x + self.attention(self.norm1(x))
        return x + self.contract(self.gelu(self.expand(self.norm2(x))))


class WaveformTransformer(nn.Module):
    """Linear embedding, learned positions, two encoder layers, mean over time, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FRAME, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(1, FRAMES, WIDTH))
        self.layers = nn.Sequential(*(EncoderLayer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Map frames [N, T, 8], T at most 32, to logits [N, 8]."""
        x = self.embed(x) + self.position[:, : x.shape[1]]
        return self.head(self.norm(self.layers(x)).mean(dim=1))


def crop(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Cut one random stretch of at least `MIN_FRAMES` frames out of a batch [N, T, 8]."""
    length = int(torch.randint(MIN_FRAMES, FRAMES + 1, (), generator=generator))
    start = int(torch.randint(0, FRAMES - length + 1, (), generator=generator))
    return samples[:, start : start + length]


def main() -> None:
    """Train, export, compare onnxruntime with torch at three lengths and write the data."""
    generator = seed_everything(SEED)
    samples, classes = generate(TRAIN_SAMPLES + TEST_SAMPLES, np.random.default_rng(SEED))
    train, test = torch.from_numpy(samples).split([TRAIN_SAMPLES, TEST_SAMPLES])
    train_labels, test_labels = torch.from_numpy(classes).split([TRAIN_SAMPLES, TEST_SAMPLES])
    module = WaveformTransformer()
    fit(module, train, train_labels, crop, generator, epochs=EPOCHS, batch=50, learning_rate=2e-3)
    path = FOLDER / "waveform_transformer.onnx"
    export(module, test[:2], path, {0: "N", 1: "T"})
    feeds = [test, test[:, :MIN_FRAMES], test[:1, :27]]
    accuracy = check_agreement(module, path, feeds, test_labels)
    save_data("waveforms", train[:CALIBRATION_SAMPLES], test, test_labels)
    print(f"{path.name}: test accuracy {accuracy:.4f} on {len(test)} series, torch = onnxruntime")


if __name__ == "__main__":
    main()
