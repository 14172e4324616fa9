"""Model-local functions: carried through unchanged, described for whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


class Function:
    """A function that the model defines for itself; passes leave its body alone."""

    __slots__ = ("proto",)

    def __init__(self, proto: onnx.FunctionProto) -> None:
        self.proto = proto

    @property
    def name(self) -> str:
        """The operator name that calls it."""
        return str(self.proto.name)

    @property
    def domain(self) -> str:
        """The domain that it is called in."""
        return str(self.proto.domain)

    @property
    def operators(self) -> tuple[str, ...]:
        """Operators of its body, in order."""
        return tuple(node.op_type for node in self.proto.node)
