"""Steps that compute in integers what a runtime with integer kernels computes in integers.

DequantizeLinear, Conv and QuantizeLinear in a row become one kernel of such a runtime: products of
8-bit numbers are summed up in 32 bits, with the 32-bit bias, and each sum is multiplied once, by
s_x s_w / s_y, before it is rounded. Computed one after the other in floats, about one number in
100,000 is rounded the other way, and what is computed from it differs ever more. Here the integers
are floats as well, which hold sums up to 2^24 exactly; gradients are those of the three operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphopt_torch.execution.element_types import HELD, RANGES
from graphopt_torch.execution.operators.quantization import spread
from graphopt_torch.execution.rounding import requantized
from graphopt_torch.execution.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
MEAN = "GlobalAveragePool"


@dataclass(frozen=True)
class Chain:
    """A product or a mean between quantized tensors: steps that become one kernel.

    Args:
        heavy: Conv, Gemm, MatMul or GlobalAveragePool.
        operands: the DequantizeLinear of each of its operands.
        bias: that of its bias, if there is one.
        activation: a Relu that the range of the result makes needless.
        quantize: what rounds the result.
    """

    heavy: Step
    operands: tuple[Step, ...]
    bias: Step | None
    activation: Step | None
    quantize: Step

    @property
    def replaced(self) -> tuple[Step, ...]:
        """The steps that are not taken any more."""
        return (self.heavy,) if self.activation is None else (self.heavy, self.activation)

    def steps(self, constants: Mapping[str, Tensor]) -> list[Step]:
        """Return the steps that take their place; those of equal names are the same."""
        made = [_shifted(s) for s in self.operands]
        names = [s.outputs[0] for s in made]
        scales = [s.inputs[1] for s in (*self.operands, self.quantize)]
        zero = self.quantize.inputs[2:3]
        if self.heavy.op == MEAN:
            inputs = (*names, *scales, *zero)
            return [*made, _becomes(self.quantize, _mean_kernel(self.quantize), inputs)]
        shape = self._factor_shape(constants)
        factor = f"{self.quantize.outputs[0]}#factor"
        made.append(Step(_factor_kernel(shape), tuple(scales), (factor,)))
        if self.bias is not None:
            whole = f"{self.bias.inputs[0]}#float"
            made.append(Step(_as_float, (self.bias.inputs[0],), (whole,)))
            names.append(whole)
        kernel = _product_kernel(self.heavy.kernel, self.quantize, len(names))
        return [*made, _becomes(self.quantize, kernel, (*names, factor, *zero))]

    def _factor_shape(self, constants: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Return the shape of the factors, one for each channel of the result, or just one."""
        if constants[self.operands[1].inputs[1]].numel() == 1:
            return ()
        if self.heavy.op != "Conv":
            return (-1,)
        rank = constants[self.operands[1].inputs[0]].dim() - 2
        return (1, -1, *[1] * rank)


def _becomes(quantize: Step, kernel: Kernel, inputs: tuple[str, ...]) -> Step:
    return Step(kernel, inputs, quantize.outputs)


def _as_float(x: Tensor) -> Tensor:
    return x.to(torch.float32)


def _shifted(dequantize: Step) -> Step:
    """Return the step that makes q - z as floats."""
    axis = dequantize.options.get("axis", 1)

    def kernel(q: Tensor, zero: Tensor | None = None) -> Tensor:
        whole = q.to(torch.float32)
        if zero is None:
            return whole
        return whole - spread(zero, q, axis % q.dim() if q.dim() else 0, 0)

    parts = (dequantize.inputs[0], *dequantize.inputs[2:3])
    return Step(kernel, parts, ("#minus#".join(parts) + "#whole",))


def _factor_kernel(shape: tuple[int, ...]) -> Kernel:
    def kernel(of_x: Tensor, of_w: Tensor, of_y: Tensor) -> Tensor:
        return (of_x.reshape(()) * of_w.reshape(shape)) / of_y.reshape(())

    return kernel


def _rounded(quantize: Step, total: Tensor, factor: Tensor, zero: Tensor | None) -> Tensor:
    kind = quantize.options["kind"]
    low, high = RANGES[kind]
    point = None if zero is None else zero.reshape(())
    made = requantized(total, factor, point, low, high)
    return made if made.requires_grad else made.to(HELD[kind])


def _product_kernel(multiply: Kernel, quantize: Step, operands: int) -> Kernel:
    def kernel(*given: Tensor) -> Tensor:
        total, factor = multiply(*given[:operands]), given[operands]
        zero = given[operands + 1] if len(given) > operands + 1 else None
        return _rounded(quantize, total, factor, zero)

    return kernel


def _mean_kernel(quantize: Step) -> Kernel:
    def kernel(x: Tensor, of_x: Tensor, of_y: Tensor, zero: Tensor | None = None) -> Tensor:
        total = x.sum(list(range(2, x.dim())), keepdim=True)
        factor = of_x.reshape(()) / (of_y.reshape(()) * x.shape[2:].numel())
        return _rounded(quantize, total, factor, zero)

    return kernel
