"""A device like its base, but with other factors: the profile that a few models give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.cost.curves import grid_of, model_us
from graphopt.cost.signature import Signature
from graphopt.cost.transfer import Measured, columns, group_of, target_curves, transfer
from graphopt.cost.transfer.device import interval
from graphopt.cost.work import Product
from graphopt.targets import builtin_targets
from graphopt.targets.profile import DeviceProfile, KernelCurve

BASE = next(t for t in builtin_targets() if t.name == "arm64-neon")
FACTORS = {"float.conv": 0.6, "float.pointwise": 0.9, "float.depthwise": 1.6, "activations": 1.2}


def convolution(kind: str, channels: int, side: int, *, window: int = 9) -> Signature:
    depthwise = kind == "depthwise"
    product = Product(
        side * side,
        1 if depthwise else channels,
        1 if depthwise else channels,
        window,
        channels if depthwise else 1,
    )
    count = channels * side * side
    weights = 4 * product.columns * product.reduction * product.groups
    return Signature(
        "Conv", kind, "float32", "plain", product, count, 4 * count, weights, 4 * count, side
    )


def model(seed: int) -> tuple[Signature, ...]:
    """Return a network of a random mixture of convolutions."""
    random = np.random.default_rng(seed)
    kinds = random.choice(["conv", "pointwise", "depthwise"], 12)
    return tuple(
        convolution(
            str(kind),
            int(random.choice([16, 32, 64])),
            int(random.choice([14, 28, 56])),
            window=1 if kind == "pointwise" else 9,
        )
        for kind in kinds
    )


def milliseconds(kernels: tuple[Signature, ...], factors: dict[str, float]) -> float:
    names, times = columns([kernels], target_curves(BASE), grid_of(BASE))
    return sum(t * factors.get(n, 1.0) for n, t in zip(names, times[0], strict=True)) / 1e3


def predicted(kernels: tuple[Signature, ...], profile: DeviceProfile) -> float:
    return model_us(kernels, profile, grid_of(BASE)) / 1e3


def measured(count: int, *, scale: float = 1.0) -> list[Measured]:
    found = []
    for seed in range(count):
        time = milliseconds(model(seed), FACTORS) + BASE.compute.run_us / 1e3
        found.append(Measured(f"net{seed}", model(seed), time * scale))
    return found


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_other_models_of_the_device_are_predicted(scale: float) -> None:
    made = transfer(measured(10, scale=scale), BASE)
    for seed in range(100, 110):
        wanted = scale * (milliseconds(model(seed), FACTORS) + BASE.compute.run_us / 1e3)
        assert predicted(model(seed), made) == pytest.approx(wanted, rel=0.05)


def test_three_models_are_better_than_a_scaled_base() -> None:
    made, errors = transfer(measured(3), BASE), {"transfer": [], "base": []}
    base = [milliseconds(model(seed), {}) for seed in range(3)]
    ratio = np.median([m.milliseconds / b for m, b in zip(measured(3), base, strict=True)])
    for seed in range(100, 120):
        wanted = milliseconds(model(seed), FACTORS)
        errors["transfer"].append(abs(predicted(model(seed), made) / wanted - 1))
        errors["base"].append(abs(milliseconds(model(seed), {}) * ratio / wanted - 1))
    assert np.mean(errors["transfer"]) <= np.mean(errors["base"])


def test_the_profile_says_what_it_rests_on() -> None:
    made = transfer(measured(4), BASE, device="board", runtime="ort 1.31", threads=2, digest="abc")
    assert (made.device, made.base, made.threads, made.digest) == ("board", BASE.name, 2, "abc")
    assert "4 whole-model measurements" in made.notes[0]
    assert any("int8.conv" in note for note in made.notes), "what no model shows is named"
    assert made.low < 1 < made.high
    assert all(c > 0 for k in made.curves.values() for c in k.terms.values())
    assert made == transfer(
        measured(4), BASE, device="board", runtime="ort 1.31", threads=2, digest="abc"
    )


def test_a_profile_can_be_the_prior() -> None:
    curves = {"float32.any": KernelCurve({"call": 2.0, "mac": 100.0, "moved": 0.1})}
    prior = DeviceProfile("near", BASE.name, "ort", 1, "", curves, 5.0, {"4": 3.5})
    made = transfer(measured(5), BASE, profile=prior)
    assert set(made.curves) == {"float32.any"}
    assert made.speedup == {"4": 3.5}
    assert transfer(measured(5), BASE, profile=prior, threads=4).speedup == {}
    assert made.run_us == pytest.approx(5.0 * made.curves["float32.any"].terms["call"] / 2.0), (
        "a run is made of calls"
    )


def test_too_few_models_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        transfer(measured(2), BASE)
    with pytest.raises(ValueError, match="no kernel"):
        transfer([*measured(2), Measured("empty", (), 1.0)], BASE.__class__(**{
            **BASE.__dict__,
            "compute": BASE.compute.__class__(**{**BASE.compute.__dict__, "run_us": 0.0}),
        }))  # fmt: skip


def test_noise_widens_the_interval_and_few_models_do() -> None:
    rest = np.array([0.1, -0.1, 0.1, -0.1])
    few, many = interval(rest), interval(np.tile(rest, 25))
    assert few[0] < many[0] < 1 < many[1] < few[1]
    assert many[1] == pytest.approx(math.exp(1.66 * 0.1), rel=0.01), "t quantile, 100 degrees"
    assert few[1] == pytest.approx(math.exp(2.132 * 0.1), rel=0.01), "t quantile, 4 degrees"


def test_groups_of_terms() -> None:
    assert group_of("float32.conv", "mac") == "float.conv"
    assert group_of("float32.conv.plain", "moved") == "activations"
    assert group_of("int8.QLinearConv", "out") == "int8.starts"
    assert group_of("int8.QLinearConv", "mac") == "int8.conv"
    assert group_of("float32.MaxPool", "visit") == "float.pool"
    assert group_of("float32.MatMul", "mac") == "float.product"
    assert group_of("float32.Softmax", "moved") == "float.element"
    assert group_of("float32.gemv", "cold_weight") == "weights"
    assert group_of("int8.any", "call") == "call"
    assert group_of("float32.conv", "cold_call") == "call"
    assert group_of("float32.conv", "cold_moved") == "activations"
    assert group_of("int8.depthwise.unaligned", "place") == "int8.starts"


def test_columns_add_up_to_the_time_of_the_curves() -> None:
    kernels, curves = model(7), target_curves(BASE)
    names, times = columns([kernels, kernels * 2], curves, grid_of(BASE))
    assert names == tuple(sorted(names))
    np.testing.assert_array_less(-1e-9, times)
    call = names.index("call")
    assert times[1, call] == pytest.approx(2 * times[0, call])
    assert times[0, call] == pytest.approx(12 * BASE.compute.dispatch_us)
