"""Train a torch module reproducibly and write it as ONNX with its calibration and test data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).resolve().parent
OPSET = 17
THREADS = 2
CALIBRATION_SAMPLES = 128
AGREEMENT = 1e-4  # largest absolute difference of logits between torch and onnxruntime


def seed_everything(seed: int) -> torch.Generator:
    """Make torch deterministic on a fixed number of threads; return the seeded generator."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def fit(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    augment: Callable[[Tensor, torch.Generator], Tensor],
    generator: torch.Generator,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
) -> None:
    """Minimise smoothed cross-entropy with AdamW on a one-cycle schedule; the last epoch is kept.

    Nothing is selected by looking at held-out data: no early stopping, no best checkpoint.
    """
    steps = len(inputs) // batch
    optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=epochs * steps
    )
    module.train()
    for epoch in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        total = 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            logits = module(augment(inputs[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:3d}/{epochs}  training loss {total / steps:.4f}")
    module.eval()


def export(module: nn.Module, sample: Tensor, path: Path, axes: dict[int, str]) -> None:
    """Write the evaluation graph of ``module``: `input` float32 -> `logits` float32 [N, classes].

    Args:
        module: Trained module, in evaluation mode.
        sample: One feed; its axes named in ``axes`` become symbolic.
        path: File to write.
        axes: Axis number of the input to symbolic name; the output keeps axis 0.
    """
    with warnings.catch_warnings():
        # The TorchScript exporter announces its successor, which needs one more package.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Folding in PRESERVE mode is unsafe for a module in training mode; this one is not.
        warnings.filterwarnings("ignore", message="It is recommended that constant folding")
        torch.onnx.export(
            module,
            (sample,),
            path,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": axes, "logits": {0: axes[0]}},
            opset_version=OPSET,
            dynamo=False,
            # EVAL would fold every BatchNormalization into its Conv: that is the compiler's job.
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    onnx.checker.check_model(onnx.load(path), full_check=True)


def check_agreement(module: nn.Module, path: Path, feeds: list[Tensor], labels: Tensor) -> float:
    """Return the accuracy on the first feed after comparing torch with onnxruntime on all.

    Raises:
        RuntimeError: A logit differs by more than `AGREEMENT`, or a predicted class differs.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for feed in feeds:
        with torch.no_grad():
            ours = module(feed).numpy()
        (theirs,) = session.run(["logits"], {"input": feed.numpy()})
        difference = float(np.abs(ours - theirs).max())
        if difference > AGREEMENT or (ours.argmax(1) != theirs.argmax(1)).any():
            raise RuntimeError(f"onnxruntime differs from torch by {difference:.2e}")
    with torch.no_grad():
        correct = module(feeds[0]).argmax(1) == labels
    return float(correct.double().mean())


def save_data(stem: str, calibration: Tensor, test: Tensor, labels: Tensor) -> None:
    """Write `<stem>.npz` (unlabelled, for calibration) and `<stem>_test.npz` (with labels)."""
    np.savez_compressed(FOLDER / f"{stem}.npz", input=calibration.numpy())
    np.savez_compressed(
        FOLDER / f"{stem}_test.npz", input=test.numpy(), labels=labels.numpy().astype(np.int64)
    )
