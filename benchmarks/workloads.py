"""The models of ../shared/data as workloads: calibration files, evaluation feeds, metrics.

Calibration and evaluation samples are never the same. Every metric is the manifest's own; models
without labels are compared with their fp32 original (signal-to-noise ratio, agreement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
Run = Callable[[Feed], list[Array]]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CALIBRATION_SAMPLES = 128


@dataclass(frozen=True)
class Workload:
    """One model with data.

    Args:
        name: file name of the model without suffix.
        calibration: feeds by input name, one sample per row, as an .npz file wants them.
        feeds: evaluation feeds.
        labels: what they should give; None without labels.
        metric: "top1" (points), "psnr_db", "next_token" (points) or "none".
    """

    name: str
    calibration: Callable[[], dict[str, Array]]
    feeds: Callable[[], list[Feed]]
    labels: Callable[[], Array | None]
    metric: str

    @property
    def path(self) -> Path:
        """The model file."""
        return SHARED / "models" / f"{self.name}.onnx"

    def write_calibration(self, folder: Path) -> Path:
        """Write the calibration samples as an .npz file and return it."""
        path = folder / f"{self.name}.npz"
        if not path.exists():
            np.savez(path, **self.calibration())
        return path


@cache
def _load(name: str) -> dict[str, Array]:
    with np.load(SHARED / "data" / name) as data:
        return {key: data[key] for key in data.files}


def _samples(name: str, arrays: Array) -> list[Feed]:
    return [{name: arrays[i : i + 1]} for i in range(len(arrays))]


def _cifar(x: Array) -> Array:
    scaled = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return scaled.transpose(0, 3, 1, 2).astype(np.float32)


def _imagenet(x: Array) -> Array:
    return (x / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)


def _classifier(
    name: str,
    data: str,
    prepare: Callable[[Array], Array],
    *,
    input_name: str = "input",
    calibration: Callable[[dict[str, Array]], Array] | None = None,
    held_back: int = 0,
) -> Workload:
    def calibrate() -> dict[str, Array]:
        source = calibration(_load(data)) if calibration else _load(data)["calib_x"]
        return {input_name: prepare(source[:CALIBRATION_SAMPLES])}

    return Workload(
        name,
        calibrate,
        lambda: _samples(input_name, prepare(_load(data)["x"][held_back:])),
        lambda: _load(data)["y"][held_back:],
        "top1",
    )


def _faces(part: slice) -> Array:
    images = next(iter(_load("faces_320x240.npz").values()))[part]
    return ((images.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)


def _face(name: str) -> Workload:
    # 16 photos in all: 8 to calibrate, 8 to compare on.
    return Workload(
        name,
        lambda: {"input": _faces(slice(0, 8))},
        lambda: _samples("input", _faces(slice(8, 16))),
        lambda: None,
        "none",
    )


def _luma(key: str, part: slice) -> Array:
    return (_load("superres_y_x3.npz")[key][part] / 255).astype(np.float32)[:, None]


def _tokens(part: slice) -> Array:
    return _load("stories260k_tokens.npz")["ids"][part].astype(np.int64)


DTLN_SECONDS = 8
DTLN_DELAY = 384


def speech() -> tuple[Array, Array]:
    """Return (clean, noisy): 8 s at 16 kHz, white noise at 5 dB from default_rng(0)."""
    clean = _load("speech_16k.npz")["test"][: DTLN_SECONDS * 16000].astype(np.float64) / 32768
    noise = np.random.default_rng(0).standard_normal(len(clean))
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (5 / 10))
    return clean, clean + noise


def enhance(first: Run, second: Run, noisy: Array, record: list[Feed] | None = None) -> Array:
    """Run the two DTLN models over ``noisy``: overlap-add, frame 512, hop 128."""
    frame, hop = 512, 128
    buffer, out = np.zeros(frame), np.zeros(frame)
    states = [np.zeros((1, 2, 128, 2), np.float32), np.zeros((1, 2, 128, 2), np.float32)]
    result = np.zeros(len(noisy))
    for start in range(0, len(noisy) - hop + 1, hop):
        buffer = np.concatenate([buffer[hop:], noisy[start : start + hop]])
        spectrum = np.fft.rfft(buffer)
        magnitude = np.abs(spectrum).astype(np.float32).reshape(1, 1, -1)
        feed = {"input_2": magnitude, "input_3": states[0]}
        mask, states[0] = first(feed)
        estimate = np.fft.irfft(magnitude[0, 0] * mask[0, 0] * np.exp(1j * np.angle(spectrum)))
        feed2 = {"input_4": estimate.astype(np.float32).reshape(1, 1, -1), "input_5": states[1]}
        block, states[1] = second(feed2)
        if record is not None:
            record.append(feed | feed2)
        out = np.concatenate([out[hop:], np.zeros(hop)]) + block[0, 0]
        result[start : start + hop] = out[:hop]
    return result


def si_sdr_db(clean: Array, enhanced: Array) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB, after the models' delay."""
    reference, found = clean[:-DTLN_DELAY], enhanced[DTLN_DELAY:]
    scale = np.dot(found, reference) / np.dot(reference, reference)
    error = found - scale * reference
    return float(10 * np.log10(np.sum((scale * reference) ** 2) / np.sum(error**2)))


@cache
def _dtln_feeds() -> list[Feed]:
    from onnxruntime import InferenceSession

    models = [
        InferenceSession(
            str(SHARED / "models" / f"dtln_model_{i}.onnx"), providers=["CPUExecutionProvider"]
        )
        for i in (1, 2)
    ]
    runs: list[Run] = [lambda f, m=m: m.run(None, f) for m in models]  # type: ignore[misc]
    record: list[Feed] = []
    enhance(runs[0], runs[1], speech()[1], record)
    return record


def _dtln(name: str, inputs: tuple[str, str]) -> Workload:
    # Calibrated on the first 2 s, compared on the rest.
    def frames(part: slice) -> list[Feed]:
        return [{k: f[k] for k in inputs} for f in _dtln_feeds()[part]]

    def calibrate() -> dict[str, Array]:
        chosen = frames(slice(0, 250, 2))[:CALIBRATION_SAMPLES]
        return {k: np.concatenate([f[k] for f in chosen]) for k in inputs}

    return Workload(name, calibrate, lambda: frames(slice(250, None)), lambda: None, "none")


def _decoder(name: str) -> Workload:
    return Workload(
        name,
        lambda: {"input_ids": _tokens(slice(0, 32))},
        lambda: _samples("input_ids", _tokens(slice(32, 96))),
        lambda: _tokens(slice(32, 96)),
        "next_token",
    )


WORKLOADS: tuple[Workload, ...] = (
    *(
        _classifier(name, "cifar10_dev.npz", _cifar)
        for name in (
            "cifar10_resnet20",
            "cifar10_resnet20_unfolded_bn",
            "cifar10_resnet20_jpegft",
            "cifar10_resnet20_jpegft_unfolded_bn",
            "cifar10_resnet56",
            "cifar10_resnet56_unfolded_bn",
        )
    ),
    _classifier("imagenet_proxyless_w025_r112", "imagenet_dev_r112.npz", _imagenet),
    _classifier("imagenet_proxyless_w025_r112_unfolded_bn", "imagenet_dev_r112.npz", _imagenet),
    _classifier("kws_dscnn_bn", "kws_mfcc.npz", lambda x: x),
    _classifier(
        "mnist_cntk",
        "mnist_test.npz",
        lambda x: x.astype(np.float32)[:, None],
        input_name="Input3",
        calibration=lambda data: data["x"][:CALIBRATION_SAMPLES],
        held_back=CALIBRATION_SAMPLES,
    ),
    _face("face_rfb320"),
    _face("face_rfb320_simplified"),
    Workload(
        "superres_espcn_x3_y",
        lambda: {"_ppp5_expanded": _luma("lr", slice(0, 29))},
        lambda: _samples("_ppp5_expanded", _luma("lr", slice(29, None))),
        lambda: _luma("hr", slice(29, None)),
        "psnr_db",
    ),
    _decoder("stories260k_decoder"),
    _dtln("dtln_model_1", ("input_2", "input_3")),
    _dtln("dtln_model_2", ("input_4", "input_5")),
)


def workloads(names: list[str] | None = None) -> Iterator[Workload]:
    """Yield all workloads, or those named."""
    for workload in WORKLOADS:
        if not names or workload.name in names:
            yield workload


def scores(workload: Workload, outputs: list[Array], labels: Array) -> Array:
    """Return one score per sample: 1 or 0 for classes, dB for images, a fraction for tokens."""
    if workload.metric == "top1":
        return np.array([float(o.argmax() == y) for o, y in zip(outputs, labels, strict=True)])
    if workload.metric == "psnr_db":
        cut = slice(6, -6)
        errors = [
            np.mean((np.clip(o[0, 0, cut, cut], 0, 1) - y[0, cut, cut]) ** 2)
            for o, y in zip(outputs, labels, strict=True)
        ]
        return -10 * np.log10(np.array(errors))
    if workload.metric == "next_token":
        return np.array(
            [
                float(np.mean(o[0, :-1].argmax(axis=-1) == y[1:]))
                for o, y in zip(outputs, labels, strict=True)
            ]
        )
    raise ValueError(workload.metric)
