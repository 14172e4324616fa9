"""OpenVINO as a target: what its CPU plugin executes in integer, and a session that runs there."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphopt.hookspecs import hookimpl
from graphopt.targets import Target, read_target

DISTRIBUTION = "onnxruntime-openvino"
TARGET = Path(__file__).with_name("openvino-cpu.toml")


def is_installed() -> bool:
    """Whether this environment's onnxruntime is the one with the OpenVINO provider."""
    try:
        version(DISTRIBUTION)
    except PackageNotFoundError:
        return False
    return True


@hookimpl
def graphopt_register_targets() -> list[Target]:
    """Return the target; where the provider is installed it is this machine, and can be timed."""
    return [dataclasses.replace(read_target(TARGET), is_host=is_installed())]
