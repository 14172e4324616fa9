"""The networks of the host benchmark: where each comes from, its family, its two forms."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import torchvision_models
from graphopt import compile as compile_model
from graphopt import ir
from graphopt.cost.shapes import dims, sized
from pruning_models import Model
from torchvision_models import default_folder

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

SAMPLES = 4
"""Calibration samples of the integer form: enough for ranges; nobody looks at the accuracy."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "alexnet": ("light/bvlc_alexnet", "light/zfnet512"),
    "squeezenet": ("light/squeezenet", "torchvision/squeezenet1_0", "torchvision/squeezenet1_1"),
    "inception": ("light/inception_v1", "light/inception_v2", "torchvision/googlenet"),
    "resnet": ("light/resnet50", "torchvision/resnet18"),
    "resnet_cifar": ("shared/cifar10_resnet20", "shared/cifar10_resnet56"),
    "densenet": ("light/densenet121",),
    "shufflenet": ("light/shufflenet", "torchvision/shufflenet_v2_x0_5",
                   "torchvision/shufflenet_v2_x1_0", "torchvision/shufflenet_v2_x2_0"),
    "mobilenet": ("torchvision/mobilenet_v2", "torchvision/mobilenet_v3_small",
                  "torchvision/mobilenet_v3_large"),
    "mnasnet": ("torchvision/mnasnet0_5", "torchvision/mnasnet1_0",
                "shared/imagenet_proxyless_w025_r112"),
    "efficientnet": ("torchvision/efficientnet_b0",),
    "regnet": ("torchvision/regnet_y_400mf", "torchvision/regnet_y_800mf"),
    "vit": ("torchvision/vit_b_32",),
    "swin": ("torchvision/swin_t",),
    "convnext": ("torchvision/convnext_tiny",),
    "face": ("shared/face_rfb320_simplified",),
    "kws": ("shared/kws_dscnn_bn",),
    "mnist": ("shared/mnist_cntk",),
    "superres": ("shared/superres_espcn_x3_y",),
    "dtln": ("shared/dtln_model_1", "shared/dtln_model_2"),
    "decoder": ("shared/stories260k_decoder",),
}  # fmt: skip
"""Networks by family: those of one family are never both fitted on and scored."""

FORMS = ("fp32", "int8")
_FLOAT_ONLY = frozenset({"light/bvlc_alexnet", "light/zfnet512"})
"""Networks whose integer form takes too long to make."""


@dataclass(frozen=True)
class Net:
    """One network in one form; ``key`` names its source and itself."""

    family: str
    key: str
    form: str

    @property
    def name(self) -> str:
        """What the results call it."""
        return f"{self.key.replace('/', '_')}:{self.form}"

    def file(self, folder: Path) -> Path:
        """Return its file, made when it is not there."""
        path = folder / "nets" / self.form / f"{self.key.replace('/', '_')}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            graph = self._graph()
            partial = path.with_suffix(".partial")
            ir.save(integer(graph) if self.form == "int8" else graph, partial)
            partial.rename(path)
        return path

    def _graph(self) -> ir.Graph:
        source, name = self.key.split("/")
        if source == "torchvision":
            return exported(name)
        graph = Model(source, name).read(default_folder())
        # Weights that a caller may replace keep onnxruntime from blocking a convolution.
        graph.ir_version = max(graph.ir_version, 4)
        for value in graph.inputs:
            if value.is_initializer:
                graph.remove_input(value)
        return graph


def nets() -> tuple[Net, ...]:
    """Return all of them."""
    return tuple(
        Net(family, key, form)
        for family, keys in FAMILIES.items() for key in keys for form in FORMS
        if form == "fp32" or key not in _FLOAT_ONLY
    )  # fmt: skip


def exported(name: str) -> ir.Graph:
    """Return a torchvision architecture at 224 pixels.

    Raises:
        RuntimeError: it cannot be exported.
    """
    folder = default_folder()
    packages = torchvision_models.install(folder, "torchvision", torchvision_models.REQUIREMENT)
    script = Path(__file__).with_name("host_export.py")
    output = torchvision_models.kept_at(folder, "torchvision-224", script, name)
    reason = torchvision_models.export_once(script, packages, name, output)
    if reason:
        raise RuntimeError(f"cannot be exported: {reason}")
    return ir.load(output)


def integer(graph: ir.Graph) -> ir.Graph:
    """Return the network with every operator in integers that can be."""
    overrides = (
        f"calibration.samples={SAMPLES}", "calibration.held-out=0", "limits.min-snr-db=-1000",
        "insert-qdq.rounding=balanced",
    )  # fmt: skip
    compiled = compile_model(
        graph, target="x86-avx512-vnni", data=noise(graph), recipe="integer", overrides=overrides,
        measure=False,
    )  # fmt: skip
    return compiled.graph


def noise(graph: ir.Graph) -> dict[str, Array]:
    """Return samples for every input, as a calibration file has them."""
    known, _ = sized(graph, {})
    made = {}
    for value in known.feeds:
        random = np.random.default_rng(zlib.crc32(value.name.encode()))
        shape = (SAMPLES, *dims(value)[1:])
        whole = value.dtype is not None and "INT" in value.dtype.name
        made[value.name] = (
            random.integers(0, 100, shape).astype(np.int64)
            if whole
            else random.standard_normal(shape).astype(np.float32)
        )
    return made
