"""Torch-Pruning's magnitude pruner: MODEL CALIBRATION.npz FOLDER all|inner RATIO...

The ONNX file's weights go into the torch definition that they were trained in (parameter-free
shortcuts: every other pixel, between zeros for the channels that are new). MagnitudePruner gets its
defaults; only the classifier is ignored, as its guide says, and with `inner` every layer whose
outputs are added up too. Each ratio is written to FOLDER/RATIO.onnx; no samples are used.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx
import torch
import torch_pruning
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

WIDTHS = (16, 32, 64)
OPSET = 17


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride = stride
        self.added = (after - before) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        found = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(found + self.shortcut(x))

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, or every other pixel of it between channels of zeros."""
        if self.stride == 1:
            return x
        around = (0, 0, 0, 0, self.added, self.added)
        return functional.pad(x[:, :, ::2, ::2], around, "constant", 0.0)


class ResNet(nn.Module):
    """Three stages of blocks at 16, 32 and 64 channels, and a linear classifier."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        before = WIDTHS[0]
        for number, width in enumerate(WIDTHS, 1):
            stage = []
            for index in range(blocks):
                stage.append(Block(before, width, 2 if before != width and index == 0 else 1))
                before = width
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.linear = nn.Linear(before, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def load(path: Path) -> ResNet:
    """Return the network with the file's weights; its initializers are named as torch does."""
    tensors = {t.name: numpy_helper.to_array(t).copy() for t in onnx.load(path).graph.initializer}
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("layer1.")})
    if not blocks or "linear.weight" not in tensors:
        raise ValueError("the peer's script has a torch definition of the ResNets only")
    network = ResNet(blocks)
    state = network.state_dict()
    wanted = [name for name in state if not name.endswith("num_batches_tracked")]
    network.load_state_dict(
        state | {name: torch.from_numpy(tensors[name]) for name in wanted}, strict=True
    )
    return network.eval()


def pruned(network: ResNet, ratio: float, ignored: list[nn.Module]) -> ResNet:
    """Return the network after MagnitudePruner, with its defaults, in one step."""
    pruner = torch_pruning.pruner.MagnitudePruner(
        network,
        torch.zeros(1, 3, 32, 32),
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network.linear, *ignored],
    )
    pruner.step()
    return network


def residual_layers(network: ResNet) -> list[nn.Module]:
    """Return the layers whose outputs are added up: they stay as they are."""
    blocks = [m for m in network.modules() if isinstance(m, Block)]
    return [network.conv1, *(block.conv2 for block in blocks)]


def write(network: ResNet, path: Path) -> None:
    """Run the network, and write it as ONNX with an open batch."""
    image = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        network(image)
        torch.onnx.export(
            network,
            (image,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        )


def main() -> None:
    """Write one model per ratio."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, folder, kind = Path(sys.argv[1]), Path(sys.argv[3]), sys.argv[4]
    for ratio in sys.argv[5:]:
        network = load(model)
        ignored = residual_layers(network) if kind == "inner" else []
        write(pruned(network, float(ratio), ignored), folder / f"{ratio}.onnx")


if __name__ == "__main__":
    main()
