"""Mirrored and moved copies of images, and which samples are fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.passes.prune.copies import ENOUGH, MOST, image_copies, usual_copies
from graphopt.passes.prune.reconstruct.walk import walks
from graphopt.passes.prune.samples import USUAL, Fitting, is_fitted
from graphopt.testing import context, graph

Array = np.ndarray[Any, Any]

NET = """g (float[n, 3, 20, 28] x) => (float[n, 3, 20, 28] y)
{
    y = Relu(x)
}"""


def image(channels: int = 3, height: int = 20, width: int = 28, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"x": random.standard_normal((1, channels, height, width)).astype(np.float32)}


def test_the_first_copy_is_the_mirror_image() -> None:
    given = image()
    (copy,) = image_copies(given, 1, seed=0, number=4)
    np.testing.assert_array_equal(copy["x"], given["x"][..., ::-1])


def test_further_copies_are_moved_and_keep_the_shape() -> None:
    given = image()
    copies = list(image_copies(given, 6, seed=0, number=4))
    assert [copy["x"].shape for copy in copies] == [given["x"].shape] * 6
    assert all(copy["x"].dtype == np.float32 for copy in copies)
    # What is inside a copy was inside the image, mirrored or not.
    for index, copy in enumerate(copies):
        source = given["x"][..., ::-1] if index % 2 == 0 else given["x"]
        assert np.isin(copy["x"], source).all()
    assert len({copy["x"].tobytes() for copy in copies}) > 3


def test_copies_are_the_same_twice_and_differ_between_samples() -> None:
    one, again, other = (
        [copy["x"] for copy in image_copies(image(), 4, seed=0, number=n)] for n in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.zeros((1, 3, 8, 8), np.float32)},
        {"x": np.zeros((1, 40), np.float32)},
        {"x": np.zeros((1, 3, 20, 20), np.int64)},
        {**image(), "state": np.zeros((1, 4), np.float32)},
    ],
    ids=["small", "row", "integers", "two inputs"],
)
def test_what_is_no_image_has_no_copies(feed: dict[str, Array]) -> None:
    assert not list(image_copies(feed, 3, seed=0, number=0))
    assert usual_copies(feed, 10) == 0


def test_few_images_have_copies_by_default() -> None:
    counts = [usual_copies(image(), n) for n in (1, ENOUGH // 2, ENOUGH - 1, ENOUGH)]
    assert counts == [MOST, 1, 1, 0]
    # A spectrogram is not mirrored unless that is asked for.
    assert usual_copies(image(channels=1), 10) == 0
    assert len(list(image_copies(image(channels=1), 2, seed=0, number=0))) == 2


@pytest.mark.parametrize(("copies", "each"), [(0, 1), (2, 3), (USUAL, 1 + MOST)])
def test_a_walk_takes_copies_under_the_number_of_their_sample(copies: int, each: int) -> None:
    model = graph(NET)
    data = {"x": np.concatenate([image(seed=i)["x"] for i in range(20)])}
    ctx = context(data=data, model=model)
    (walk,) = walks([(model, ["y"])], ctx, Fitting(copies))
    numbers = [number for batch in walk.tensors(["y"]) for number in batch.samples]
    assert numbers == [n for n in range(20) if is_fitted(n) for _ in range(each)]


def test_everything_is_fitted_to_in_the_end() -> None:
    assert all(map(Fitting(everything=True), range(10)))
    assert [n for n in range(10) if Fitting()(n)] == [n for n in range(10) if is_fitted(n)]
