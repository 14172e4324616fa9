"""The page of each finding of doctor: how it comes about, and what to do."""

from __future__ import annotations

FINDING_PAGES: dict[str, tuple[str, str]] = {
    "D101": (
        "The inputs are quantized and the output is not. Tools that quantize only the inputs of "
        "operators, for another runtime, write this: nncf behind an activation that OpenVINO "
        "fuses, for one.",
        "`graphopt compile MODEL --data FILE` measures the range of the output and adds the Q; "
        "what is quantized already keeps its parameters.",
    ),
    "D102": (
        "Beside the Q, something reads the output as float, so the float has to be computed.",
        "Let the other reader take what the Q wrote, through a DQ. `graphopt compile --data` does.",
    ),
    "D103": (
        "The output is returned as float as well, so the float has to be computed.",
        "Return what a DQ behind the Q gives. `graphopt compile --data` does.",
    ),
    "D104": (
        "One operand is float, or its scale is computed at run time, or a bias is.",
        "`graphopt compile --data` measures the range of the operand and quantizes it.",
    ),
    "D105": (
        "Add and Mul run in integer only where both sides are integers, constants included.",
        "`--fix` stores a single number in 8 bits without any loss; `graphopt compile --data` "
        "does it for tensors.",
    ),
    "D106": (
        "QuantizeLinear without a zero point is legal and means 0. onnxruntime looks for the input "
        "when it drops Q and DQ around operators that move data, and keeps them where it is "
        "missing. Tools for TensorRT leave it out.",
        "`--fix` writes the zero.",
    ),
    "D107": (
        "A scale of shape [1] means the same as a scalar, but not to every rule of onnxruntime.",
        "`--fix` stores scale and zero point with rank 0.",
    ),
    "D108": (
        "x86 kernels take uint8 activations. onnxruntime turns int8 into uint8 when it loads a "
        "model, but only where a Q has a single DQ behind it: not at a residual, not at x * "
        "sigmoid(x), not at the input of attention. int8 activations are the default of several "
        "tools.",
        "`--fix` stores the integers as uint8, with the zero point raised by 128: the same "
        "numbers. Ask the tool for uint8 activations next time.",
    ),
    "D109": (
        "The Q behind the Gather is turned into uint8 at load, and no longer fits an int8 table.",
        "`--fix` stores the table as uint8, with the zero point raised by 128.",
    ),
    "D110": (
        "Weights may have a scale for each output; an activation has one for all of it.",
        "Quantize activations per tensor. `--fix` merges scales that are all equal.",
    ),
    "D111": (
        "Operators that only move data run on integers as they are, so their output has the scale "
        "and the zero point of their input.",
        "Quantize the output as the input. `--fix` does where the output represented no less.",
    ),
    "D112": (
        "The bias is added to sums of products, so its scale is that of the input times that of "
        "the weight. A tool that rescaled one of them later and forgot the bias writes this.",
        "`--fix` stores the bias in that scale, off by half a step at most.",
    ),
    "D113": (
        "A Relu or Clip between the operator and its Q is dropped only where the range of the Q "
        "implies it. Symmetric activations do not imply a Relu.",
        "`--fix` puts the zero point behind a Relu at the smallest integer, with the same scale.",
    ),
    "D114": (
        "The CPU has integer kernels for 8 bits; activations of 16 and weights of 4 bits are for "
        "other hardware, or for MatMul with float activations.",
        "Quantize to 8 bits, or leave the operator in float.",
    ),
    "D115": (
        "Opset or attributes of the operator are not those that its integer kernel takes.",
        "Export the model so that they are, or keep the operator out of quantization.",
    ),
    "D117": (
        "When it loads a model, onnxruntime makes one Gemm of a MatMul and the Add of a vector "
        "before it looks for Q and DQ. A Gemm with a float bias and a float output has no integer "
        "kernel, so that the weight is dequantized at every run: slower than float.",
        "`--fix` gives the vector the rank of the output, or makes it the int32 bias of a Gemm.",
    ),
    "D118": (
        "A Gemm takes a float bias only where its output is quantized.",
        "`--fix` stores the bias as int32 in the scale of input times weight.",
    ),
    "D120": (
        "The runtime has no integer kernel for the operator, so its DQ and Q only cost time and "
        "accuracy. Tools wrap it because another runtime has one.",
        "Keep the operator out of quantization. `--fix` removes pairs that no integer operator "
        "needs; `graphopt compile` rewrites some operators into others that have kernels.",
    ),
    "D121": (
        "The weight is stored in 8 bits and the activation is float. No convolution takes both, "
        "so the weight is dequantized at every run.",
        "`graphopt compile --data` quantizes the activations. `--fix` stores the weight in float: "
        "faster, and four times larger.",
    ),
    "D122": (
        "MatMulNBits, the product of float activations and packed weights, takes weights as "
        "[inputs, outputs].",
        "`--fix` transposes the stored integers.",
    ),
    "D123": (
        "MatMulNBits takes the weight out of its DQ, which nobody else may read.",
        "`--fix` gives each reader a DQ of its own.",
    ),
    "D124": (
        "Arm has kernels for int8 by int8 and for uint8 by either, not for int8 by uint8.",
        "`--fix` stores the weight as int8, with the zero point lowered by 128.",
    ),
    "D126": (
        "Integer kernels read and write the same type.",
        "Quantize all activations to one type.",
    ),
    "D130": (
        "onnxruntime executes the operator in float, and no rule that graphopt knows says why.",
        "Report the model.",
    ),
    "D201": (
        "A float Conv, ConvTranspose or Gemm between a DQ with one scale and a Q is quantized by "
        "onnxruntime itself when it loads the model: weight int8, one scale for all outputs. "
        "Operators that were excluded for their accuracy are void of it.",
        "`--fix` gives the DQ before it a vector of equal scales, which that rule does not take. "
        "Or set `disabled_optimizers=['WeightBiasQuantization']` wherever the model is opened.",
    ),
    "D202": (
        "Without VNNI, x86 adds pairs of products of uint8 and int8 in 16 bits, which saturates "
        "where neighbouring weights are large and of one sign. The same file then gives other "
        "results on other machines.",
        "`--fix --target x86-avx2` stores the threatened weights as uint8, which takes a slower "
        "kernel without saturation; `graphopt compile --target x86-avx2 --data FILE` makes the "
        "steps of such outputs only as coarse as their worst pair needs.",
    ),
    "D203": (
        "Integer kernels scale each output after its sum is complete, so that a weight may have "
        "one scale for each output. onnxruntime does not look at the axis: it applies scales that "
        "run over the inputs to the outputs, and the results are wrong without any message.",
        "Quantize the weight per tensor or per output channel. `--fix` stores it in float, which "
        "gives the results that the file means.",
    ),
    "D301": (
        "Scale and zero point of Add, Mul and other elementwise operators must have rank 0: with "
        "shape [1], or a scale per channel, onnxruntime does not open the model.",
        "`--fix` stores a single one, or several that are equal, with rank 0.",
    ),
    "D302": (
        "onnxruntime fuses a product whose input or output has a scale for each channel, and the "
        "kernel then fails at run time.",
        "Quantize activations per tensor. `--fix` merges scales that are all equal.",
    ),
    "D303": (
        "Scales per channel, and the attribute `axis`, exist from opset 13 on. Tools that do not "
        "look at the opset of a model write them all the same.",
        "`--fix` brings the model to opset 13.",
    ),
    "D401": (
        "Dynamic quantization makes ConvInteger of a Conv. It is neither fused nor fast.",
        "Exclude Conv from dynamic quantization, or `graphopt compile` the float model with "
        "--data.",
    ),
    "D402": (
        "onnxruntime fuses DynamicQuantizeLinear, MatMulInteger, Cast and Mul in a row. Something "
        "stands between them.",
        "Keep them in a row.",
    ),
    "D403": (
        "Exporters write a Clip on the integers for quantization-aware training in 7 bits. It "
        "runs as an operator of its own.",
        "`--fix` removes it: the steps are the same, and values beyond its limits are represented.",
    ),
}
"""By code: the cause, and the remedy."""
