"""Terms only grow with the sizes of a kernel, and name the curve that it belongs to."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.cost.signature import Signature
from graphopt.cost.terms import Around, Grid, candidate_terms, curve_keys, missed, terms
from graphopt.cost.work import Product

GRID = Grid({"float32": 16, "int8": 16}, 1 << 20, 16 << 20, 4e3)
KINDS = ("conv", "pointwise", "depthwise", "grouped", "gemm", "gemv", "attention")
SIZES = ("rows", "columns", "inputs", "window", "groups")
PLAIN = ("elements", "read_bytes", "weight_bytes", "write_bytes")


@st.composite
def kernels(draw):
    kind = draw(st.sampled_from((*KINDS, "elementwise", "pool", "reduction", "movement")))
    product = None
    if kind in KINDS:
        product = Product(*(draw(st.integers(1, 300)) for _ in SIZES))
    return Signature(
        kernel="Kernel",
        kind=kind,
        dtype=draw(st.sampled_from(("float32", "int8"))),
        layout=draw(st.sampled_from(("plain", "blocked", "channels_last"))),
        product=product,
        elements=draw(st.integers(1, 1 << 20)),
        read_bytes=draw(st.integers(0, 1 << 22)),
        weight_bytes=draw(st.integers(1, 1 << 22)),
        write_bytes=draw(st.integers(0, 1 << 22)),
        line=draw(st.integers(0, 64)),
        window=draw(st.integers(1, 49)),
    )


@given(kernels(), st.sampled_from((*SIZES, *PLAIN)), st.integers(1, 5000))
def test_every_term_grows_with_every_size(signature, size, more):
    if size in SIZES:
        if signature.product is None:
            return
        product = signature.product
        larger = dataclasses.replace(product, **{size: getattr(product, size) + more})
        grown = dataclasses.replace(signature, product=larger)
    else:
        grown = dataclasses.replace(signature, **{size: getattr(signature, size) + more})
    around = Around(1 << 22, 500.0)
    before, after = terms(signature, GRID, around), terms(grown, GRID, around)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value >= 0
        assert after[name] >= value * (1 - 1e-12), name


@given(kernels())
def test_candidates_exist(signature):
    assert set(candidate_terms(signature.kind)) <= terms(signature, GRID).keys()


@given(kernels())
def test_every_kernel_has_a_curve_for_all_kinds_at_the_end(signature):
    keys = curve_keys(signature, GRID)
    assert keys[-1] == f"{signature.dtype}.any"
    assert len(keys) == len(set(keys))


def test_channels_are_rounded_up_to_blocks():
    product = Product(rows=49, columns=20, inputs=24, window=9)
    signature = Signature("Conv", "conv", "float32", "blocked", product, 980, 1, 1, 1, 7)
    assert terms(signature, GRID)["mac"] == pytest.approx(49 * 32 * 32 * 9 / 1e6)


@pytest.mark.parametrize(
    ("dtype", "layout", "kind", "product", "key"),
    [
        ("float32", "blocked", "conv", Product(49, 64, 3, 9), "float32.conv.first"),
        ("float32", "blocked", "conv", Product(49, 64, 32, 9), "float32.conv"),
        ("float32", "plain", "grouped", Product(49, 8, 8, 9, 4), "float32.grouped.plain"),
        ("int8", "channels_last", "conv", Product(49, 10, 32, 9), "int8.conv.unaligned"),
        ("int8", "channels_last", "conv", Product(49, 32, 4, 9), "int8.conv.first"),
        ("int8", "channels_last", "depthwise", Product(49, 1, 1, 9, 64), "int8.depthwise"),
        (
            "int8",
            "channels_last",
            "depthwise",
            Product(49, 1, 1, 9, 58),
            "int8.depthwise.unaligned",
        ),
        ("float32", "plain", "grouped", Product(49, 68, 68, 1, 4), "float32.grouped.point"),
        ("float32", "plain", "pointwise", Product(1, 64, 64), "float32.pointwise.one"),
    ],
)
def test_first_key_of_a_convolution(dtype, layout, kind, product, key):
    signature = Signature("Conv", kind, dtype, layout, product, 1, 1, 1, 1, 7)
    assert curve_keys(signature, GRID)[0] == key


def test_caches_forget_gradually():
    assert missed(0.4e6, 1_000_000) == 0
    assert missed(0.75e6, 1_000_000) == pytest.approx(0.5)
    assert missed(2e6, 1_000_000) == 1
