"""What a graph says about its tensors by name: quantization annotations."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx


def annotated_names(shell: onnx.GraphProto) -> set[str]:
    """Return the names of the tensors that have an annotation."""
    return {a.tensor_name for a in shell.quantization_annotation}


def renamed(shell: onnx.GraphProto, old: str, new: str) -> onnx.GraphProto:
    """Return ``shell`` with one tensor called ``new``; copies share it, so it is never changed."""
    parameters = {
        e.value for a in shell.quantization_annotation for e in a.quant_parameter_tensor_names
    }
    if old not in annotated_names(shell) | parameters:
        return shell
    shell = copy.deepcopy(shell)
    for annotation in shell.quantization_annotation:
        if annotation.tensor_name == old:
            annotation.tensor_name = new
        for entry in annotation.quant_parameter_tensor_names:
            if entry.value == old:
                entry.value = new
    return shell


def drop_stale(proto: onnx.GraphProto, is_gone: Callable[[str], bool]) -> None:
    """Drop what is said about tensors that are gone."""
    annotations = [a for a in proto.quantization_annotation if not is_gone(a.tensor_name)]
    if len(annotations) != len(proto.quantization_annotation):
        del proto.quantization_annotation[:]
        proto.quantization_annotation.extend(annotations)
