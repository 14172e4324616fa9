"""Running serialized models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(model: bytes, feeds: Mapping[str, Any]) -> list[Any]:
    """Run a serialized model without optimisation, so that equal graphs give equal bits."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def assert_same_outputs(first: bytes, second: bytes, feeds: Mapping[str, Any]) -> None:
    """Assert that two models give the same outputs, bit for bit."""
    for expected, found in zip(run(first, feeds), run(second, feeds), strict=True):
        np.testing.assert_array_equal(expected, found, strict=True)
