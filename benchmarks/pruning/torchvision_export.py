"""Write one torchvision architecture with random weights as an ONNX file.

Runs in a process of its own: ``torchvision_export.py NAME OUTPUT``, with torch and torchvision's
Python files on the path. torchvision's compiled operators are not needed: their schemas are
declared here, and the two that detection calls have an implementation in Python, good enough to
trace a graph with. What is written computes them with ONNX's NonMaxSuppression and RoiAlign.

Weights are drawn so that an oracle has something to see: weights keep the scale of what passes
through them, biases and scales are not zero or one, and statistics of BatchNorm are those of what
arrives, as in a trained network.
"""

from __future__ import annotations

import importlib
import sys
import warnings
import zlib
from typing import Any

import torch

OPSET = 17
SETTLING = 16
"""Images that scales and statistics are taken from; detection, which is slow, makes do with two."""
FEW = 8
"""Boxes that the tracing stand-in of NonMaxSuppression returns at most."""
IMAGE = 64
SIZES = {
    "inception_v3": 96,
    "efficientnet": 128,
    "swin": 224,
    "vit_h_14": 56,
    "raft": 128,
    "fcn": 96,
    "deeplabv3": 96,
    "lraspp": 96,
    "ssd300": 300,
    "ssdlite320": 320,
    "rcnn": 128,
    "fcos": 128,
    "retinanet": 128,
    # What they pool to a fixed size must be a multiple of it to be exported.
    "alexnet": 224,
    "vgg": 224,
}
"""Side of the square input in pixels, by part of the name; IMAGE for all others."""

RESIDUAL = ("Block", "Bottleneck", "InvertedResidual", "MBConv")
"""How the names of blocks end that have a residual branch, if they have BatchNorm."""
SHORTCUTS = ("downsample", "proj")
"""How the names of the modules begin that are not part of it."""

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int batch_size, int channels, int height, int width, int sampling_ratio, "
    "bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width) -> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, "
    "int pooled_height, int pooled_width, int batch_size, int channels, int height, int width) "
    "-> Tensor",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, "
    "float spatial_scale, int pooled_height, int pooled_width, int sampling_ratio, "
    "int batch_size, int channels, int height, int width) -> Tensor",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, "
    "float spatial_scale, int pooled_height, int pooled_width, int batch_size, int channels, "
    "int height, int width) -> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, "
    "int groups, int offset_groups, bool use_mask) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, "
    "Tensor mask, Tensor bias, int stride_h, int stride_w, int pad_h, int pad_w, "
    "int dilation_h, int dilation_w, int groups, int offset_groups, bool use_mask) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    "box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor",
    "_cuda_version() -> int",
)


def declare_operators() -> torch.library.Library:
    """Declare what torchvision's own library would; return what keeps the declarations alive."""
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", _suppress, "CPU")
    library.impl("roi_align", _pool_regions, "CPU")
    library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
    return library


def import_torchvision() -> None:
    """Import torchvision without its compiled part, and let it know that it has operators."""
    extension = importlib.import_module("torchvision.extension")
    align = importlib.import_module("torchvision.ops.roi_align")
    extension._has_ops = align._has_ops = _has_operators  # type: ignore[attr-defined]
    importlib.import_module("torchvision.ops._register_onnx_ops")._register_custom_op()


def _has_operators() -> bool:
    return True


def _suppress(boxes: Any, scores: Any, threshold: float) -> Any:
    """Return boxes that no better one overlaps by more than the threshold, best first.

    The first few are enough to trace a graph with; what is written looks at all of them.
    """
    left = scores.argsort(descending=True)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    kept = []
    while len(left) and len(kept) < FEW:
        best, left = left[0], left[1:]
        kept.append(int(best))
        corner = torch.maximum(boxes[best, :2], boxes[left, :2])
        opposite = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (opposite - corner).clamp(min=0).prod(-1)
        whole = (area[best] + area[left] - shared).clamp(min=1e-9)
        left = left[shared / whole <= threshold]
    return torch.tensor(kept, dtype=torch.int64)


def _pool_regions(
    x: Any, regions: Any, scale: float, high: int, wide: int, samples: int, aligned: bool
) -> Any:
    """Return one sample per bin, at its middle: of the right shape and scale, which will do."""
    shift = 0.5 if aligned else 0.0
    box = regions[:, 1:] * scale - shift
    across = (torch.arange(wide) + 0.5) / wide
    down = (torch.arange(high) + 0.5) / high
    columns = box[:, None, 0] + across * (box[:, None, 2] - box[:, None, 0])
    rows = box[:, None, 1] + down * (box[:, None, 3] - box[:, None, 1])
    columns = columns.round().long().clamp(0, x.shape[3] - 1)
    rows = rows.round().long().clamp(0, x.shape[2] - 1)
    image = regions[:, 0].long()
    return x[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def side(name: str) -> int:
    """Return the side of the input image."""
    return next((size for part, size in SIZES.items() if part in name), IMAGE)


def build(name: str) -> torch.nn.Module:
    """Return the architecture with torchvision's own initial weights."""
    from torchvision import models

    options: dict[str, Any] = {"weights": None}
    home: Any = models
    if "rcnn" in name or name.startswith(("ssd", "fcos", "retinanet")):
        home = models.detection
        options["weights_backbone"] = None
        if not name.startswith("ssd"):
            options |= {"trainable_backbone_layers": 5, "min_size": 128, "max_size": 160}
            options["trainable_backbone_layers"] = 6 if "mobilenet" in name else 5
    elif name.startswith(("fcn", "deeplabv3", "lraspp")):
        home = models.segmentation
        options["weights_backbone"] = None
    elif name.startswith("raft"):
        home = models.optical_flow
    if name.startswith("vit"):
        options["image_size"] = side(name)
    if name in {"googlenet", "inception_v3"}:
        options |= {"aux_logits": False, "init_weights": False}
    return getattr(home, name)(**options)


def draw_weights(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw weights that keep the scale of what passes, and biases that are not zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("weight") and parameter.dim() > 1:
                parameter.copy_(noise * (2.0 / parameter[0].numel()) ** 0.5)
            elif name.endswith("weight") or "layer_scale" in name or "scale_weight" in name:
                parameter.copy_(1 + noise.clamp(-2, 2) / 4)
            else:
                parameter.copy_(noise / 2)


def quiet_branches(model: torch.nn.Module) -> None:
    """Let residual branches add little, as in a trained network.

    Otherwise dozens of them, one upon the other, make a rounding error of a first layer a
    difference that is seen.
    """
    for block in model.modules():
        if type(block).__name__.endswith(RESIDUAL):
            norms = [
                norm
                for name, norm in block.named_modules()
                if isinstance(norm, torch.nn.BatchNorm2d) and not name.startswith(SHORTCUTS)
            ]
            if norms:
                with torch.no_grad():
                    norms[-1].weight *= 0.3


def pictures(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return images that differ in what is large in them, not only in noise.

    All white noise looks the same to a deep layer; what little differs is then blown up.
    """
    coarse = torch.randn(count, shape[0], 4, 4)
    smooth = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="nearest")
    return smooth + torch.randn(count, *shape) / 4


def settle(model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    """Scale every product's outputs to one, and give every BatchNorm the statistics it meets.

    Both in the order in which they run, so that no layer is fed what it does not expect.
    """
    hooks = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(_settle))
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            hooks.append(module.register_forward_hook(_Scale()))
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()


def _settle(norm: Any, inputs: tuple[Any, ...]) -> None:
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)
    # A channel that hardly changes in a few images must not be blown up in the next.
    norm.running_var.copy_(variance.clamp(min=float(variance.mean()) / 4))


class _Scale:
    """Scales a layer by what it makes when it is first run; later runs share its weights."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, layer: Any, _: Any, made: torch.Tensor) -> torch.Tensor | None:
        spread = float(made.std()) if made.numel() > 1 else 0.0
        if self.done or not spread:
            return None
        self.done = True
        layer.weight /= spread
        if layer.bias is not None:
            layer.bias /= spread
        return made / spread


class Outputs(torch.nn.Module):
    """Returns a flat tuple of tensors, whatever the model returns."""

    def __init__(self, model: torch.nn.Module, images: bool) -> None:
        super().__init__()
        self.model = model
        self.images = images

    def forward(self, *inputs: Any) -> Any:
        """Run the model."""
        made = self.model(list(inputs)) if self.images else self.model(*inputs)
        return tuple(_tensors(made))


def _tensors(made: Any) -> list[Any]:
    if isinstance(made, torch.Tensor):
        return [made]
    parts = made.values() if isinstance(made, dict) else made
    return [tensor for part in parts for tensor in _tensors(part)]


def export(name: str, output: str) -> None:
    """Write the architecture to a file."""
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    model = build(name).eval()
    draw_weights(model, torch.Generator().manual_seed(seed))
    quiet_branches(model)
    shape = (3, side(name), side(name))
    detection = "rcnn" in name or name.startswith(("ssd", "fcos", "retinanet"))
    if detection:
        settle(model, (list(pictures(2, shape)),))
        inputs: tuple[Any, ...] = (torch.randn(shape),)
    else:
        count = 2 if name.startswith("raft") else 1
        settle(model, tuple(pictures(SETTLING, shape) for _ in range(count)))
        inputs = tuple(torch.randn(1, *shape) for _ in range(count))
    if name.startswith("raft"):
        # What a step adds to the flow is where the next one looks: small steps, as when trained.
        with torch.no_grad():
            model.update_block.flow_head.conv2.weight /= 10
    with torch.no_grad():
        torch.onnx.export(
            Outputs(model, detection),
            inputs,
            output,
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"image{i}" for i in range(len(inputs))],
        )


def main() -> None:
    """Export what the command line names."""
    warnings.simplefilter("ignore")
    # The fused attention of torch's own encoder layers has no ONNX form.
    torch.backends.mha.set_fastpath_enabled(False)
    library = declare_operators()
    import_torchvision()
    export(sys.argv[1], sys.argv[2])
    del library


if __name__ == "__main__":
    main()
