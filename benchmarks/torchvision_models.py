"""The 85 torchvision architectures of Torch-Pruning's list, as ONNX files with random weights.

Torch-Pruning reports that it prunes 77 of them and fails on eight: RAFT, Swin and ShuffleNet
(VainF/Torch-Pruning, examples/torchvision_models/readme.md, torchvision 0.13.1). The
architectures are the same in the release that is used here; its Python files are installed into a
folder of their own, without its compiled operators, which need another build of torch. The
interpreter that runs this needs torch, onnx, numpy and pillow.

Every file is made in a process of its own and kept. Usage: torchvision_models.py [--folder PATH]
[NAME …].
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
REQUIREMENT = "torchvision==0.29.2"
TIME_LIMIT = 1800

FAILED_BY_TORCH_PRUNING = (
    "raft_large",
    *("swin_t", "swin_s", "swin_b"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
)

NAMES = (
    *("alexnet", "squeezenet1_0", "squeezenet1_1", "googlenet", "inception_v3"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf"),
    *("regnet_y_8gf", "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf"),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    *("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"),
    *("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
    *("ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "fcos_resnet50_fpn"),
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"),
    *("fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2"),
    *FAILED_BY_TORCH_PRUNING,
)


def default_folder() -> Path:
    """Return where exported models are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "graphopt-pruning"


def install(folder: Path, name: str, *requirements: str, dependencies: bool = False) -> Path:
    """Return a folder with these packages, and with what they need when asked; fill it when new."""
    home = folder / "packages" / name
    stamp = home / "requirements.txt"
    wanted = "".join(f"{line}\n" for line in requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [sys.executable, "-m", "pip", "install", "-qq", "--upgrade"]
        command += [] if dependencies else ["--no-deps"]
        subprocess.run([*command, "--target", str(home), *requirements], check=True)
        stamp.write_text(wanted)
    return home


def export_once(script: Path, packages: Path | str, name: str, output: Path) -> str:
    """Let a script write a model, in a process of its own; return why it did not, or nothing.

    ``packages`` is a folder, or several as PYTHONPATH wants them.
    A model that is there is kept, and so is the reason why there is none.
    """
    failure = output.with_suffix(".failed")
    if output.exists():
        return ""
    if failure.exists():
        return failure.read_text()
    output.parent.mkdir(parents=True, exist_ok=True)
    # Of its own, as another process may be exporting the same model.
    partial = output.with_name(f"{output.stem}.{os.getpid()}.partial")
    partial.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    command = [sys.executable, str(script), name, str(partial / output.name)]
    reason = _last_words(command, environment)
    if reason:
        failure.write_text(reason)
    else:
        # Weights beyond 2 GB lie in files beside the model.
        for file in sorted(partial.iterdir(), key=lambda file: file.suffix == ".onnx"):
            file.rename(output.parent / file.name)
    for file in partial.iterdir():
        file.unlink()
    partial.rmdir()
    return reason


def _last_words(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIME_LIMIT} s"
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1][:300] if said else f"exit status {done.returncode}, nothing written"


def kept_at(folder: Path, family: str, script: Path, name: str) -> Path:
    """Return where a model is kept: a script that has changed makes all of its models again."""
    digest = hashlib.sha256(script.read_bytes()).hexdigest()[:8]
    return folder / f"{family}-{digest}" / name / f"{name}.onnx"


def export(name: str, folder: Path) -> tuple[Path, str]:
    """Return the file of an architecture, and why it is not there, or nothing."""
    script = HERE / "pruning" / "torchvision_export.py"
    output = kept_at(folder, "torchvision", script, name)
    packages = install(folder, "torchvision", REQUIREMENT)
    return output, export_once(script, packages, name, output)


def export_named(
    about: str | None, known: Sequence[str], export: Callable[[str, Path], tuple[Path, str]]
) -> None:
    """Export what the command line names, or all that is known."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    for name in options.names or known:
        path, reason = export(name, options.folder)
        print(f"{name}: {reason or path}", flush=True)


if __name__ == "__main__":
    export_named(__doc__, NAMES, export)
