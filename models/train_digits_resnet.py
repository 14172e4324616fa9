"""Train `digits_resnet.onnx`, a residual CNN that reads handwritten digits.

Run `python models/train_digits_resnet.py`; it needs torch and scikit-learn and writes
`digits_resnet.onnx`, `digits.npz` and `digits_test.npz` beside itself.
"""

from __future__ import annotations

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
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 20
TEST_SAMPLES = 797
EPOCHS = 40
SIDE = 16  # pixels; twice the side of scikit-learn's images
MAX_SHIFT = 0.15  # of half the side
MAX_ANGLE = 0.25  # radians
MAX_ZOOM = 0.12


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added, projected where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels_in, H, W] to [N, channels_out, H / stride, W / stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """Stem, one block at 32 channels, one stride-2 block at 64, average, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.stage1 = ResidualBlock(32, 32, stride=1)
        self.stage2 = ResidualBlock(32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 1, 16, 16] in [0, 1] to logits [N, 10]."""
        x = functional.relu(self.norm(self.stem(x)))
        x = self.pool(self.stage2(self.stage1(x)))
        return self.head(x.flatten(1))


def load_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training inputs, test inputs, training labels, test labels.

    Pixels 0..16 are divided by 16 and enlarged bilinearly to 16x16; classes are stratified.
    """
    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    images = functional.interpolate(images, size=SIDE, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SAMPLES, random_state=SEED, stratify=digits.target
    )
    return images[train], images[test], labels[train], labels[test]


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, turn and zoom each image [N, 1, H, W] by its own small random amount."""

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(len(images), generator=generator) - 1) * limit

    angle, zoom = uniform(MAX_ANGLE), 1 + uniform(MAX_ZOOM)
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = [cosine, -sine, uniform(MAX_SHIFT), sine, cosine, uniform(MAX_SHIFT)]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1).reshape(-1, 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


def main() -> None:
    """Train, export, compare onnxruntime with torch and write the data."""
    generator = seed_everything(SEED)
    train, test, train_labels, test_labels = load_split()
    module = DigitsResNet()
    fit(module, train, train_labels, jitter, generator, epochs=EPOCHS, batch=50, learning_rate=6e-3)
    path = FOLDER / "digits_resnet.onnx"
    export(module, test[:2], path, {0: "N"})
    accuracy = check_agreement(module, path, [test, test[:1]], test_labels)
    save_data("digits", train[:CALIBRATION_SAMPLES], test, test_labels)
    print(f"{path.name}: test accuracy {accuracy:.4f} on {len(test)} images, torch = onnxruntime")


if __name__ == "__main__":
    main()
