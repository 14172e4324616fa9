"""Every error that graphopt shows to a user: one tree, each with a code, a place and a hint."""

from __future__ import annotations

CODES: dict[str, str] = {
    "G000": "graphopt could not continue",
    # Recipes and options
    "G101": "the recipe is not valid TOML",
    "G102": "unknown key in a recipe",
    "G103": "a value in a recipe has the wrong type or range",
    "G104": "a pass has no such option",
    "G105": "unknown pass",
    "G106": "unknown preset",
    "G107": "the recipe needs a plugin that is not installed",
    "G108": "bad value on the command line",
    "G109": "the recipe file cannot be read",
    "G110": "what an option needs is not installed",
    # Models and data
    "G201": "the model file cannot be read",
    "G202": "the file is not an ONNX model",
    "G203": "external data is missing or too short",
    "G204": "external data points outside the model's folder",
    "G205": "the graph is not legal",
    "G206": "the runtime does not support the opset",
    "G207": "the runtime cannot run an operator of the model",
    "G208": "the model cannot be written",
    "G209": "the model is too deeply nested or too large to be honest",
    "G211": "the calibration data cannot be read",
    "G212": "the data does not fit the model's inputs",
    "G213": "the data holds no samples",
    "G214": "the data holds NaN or infinity",
    "G215": "the runtime could not run the model",
    "G216": "the accuracy cannot be judged on the data",
    "G217": "the model cannot be analysed",
    "G218": "the model cannot have the stated sizes",
    # Passes
    "G301": "a pass failed",
    "G302": "a pass left an illegal graph behind",
    "G303": "an exact pass changed the outputs",
    "G304": "a pass lost fused operators",
    "G305": "a pass misreported whether it changed the graph",
    "G306": "a pass exceeded its noise budget",
    "G307": "pruning changed the outputs too much",
    "G308": "the goal of pruning cannot be reached",
    "G309": "removing units did not do what it must",
    "G310": "a pass did what cannot be undone",
    "G311": "the stated drop was not kept",
    # Plugins
    "G401": "a plugin could not be loaded",
    "G402": "two plugins provide the same name",
    "G403": "a plugin does not match graphopt's hooks",
    "G404": "a plugin returned something that is not what its hook promises",
    # Targets
    "G501": "unknown target",
    "G502": "a target file is not valid",
    "G503": "the target cannot hold the model",
    "G504": "measurements of a device cannot be used",
    "G506": "a table of measured models cannot be used",
    "G507": "no model is within the budgets",
    # Workers
    "G601": "unknown executor",
    "G602": "workers died of a task",
    "G603": "a worker would not give the same results",
    "G604": "the cluster cannot be reached",
    "G605": "a worker process could not be started",
    "G606": "a file for the workers cannot be used",
    # Warnings: the compile goes on, the report has them
    "W211": "no data was given",
    "W212": "too few validation samples for the stated drop",
    "W213": "layers were fitted to synthetic samples",
    "W303": "the outputs could not be compared",
    "W304": "the runtime's optimiser changes what the original computes",
    "W306": "everything stays in float to keep the stated accuracy",
    "W405": "nothing was trained, although that was asked for",
    "W501": "the compiled model was not faster, so the original was kept",
    "W502": "the target's own runtime was not used",
    "W503": "the model is too large to be timed",
    "W504": "the choice of integer operators failed",
    "W505": "nothing compiled for the target was ever run",
    # Findings of doctor: D1 float although quantized, D2 other than the file says, D3 does not run,
    # D4 slow by itself
    "D101": "the output is not quantized",
    "D102": "the output is also read as float",
    "D103": "the output is also returned as float",
    "D104": "an operand is not quantized",
    "D105": "a constant operand is float",
    "D106": "the zero point is omitted",
    "D107": "the scale of an activation is not a scalar",
    "D108": "int8 activations with several readers on x86",
    "D109": "an int8 table on x86",
    "D110": "an activation has a scale per channel",
    "D111": "moved data changes its scale",
    "D112": "the scale of a bias does not fit",
    "D113": "an activation stands between the operator and its Q",
    "D114": "no kernel for the number of bits",
    "D115": "no integer kernel in this form",
    "D117": "MatMul and bias become a float Gemm",
    "D118": "a Gemm with a float bias and a float output",
    "D120": "an operator without an integer kernel is quantized",
    "D121": "the weight of a convolution is dequantized at every run",
    "D122": "a packed weight is transposed",
    "D123": "a packed weight is shared",
    "D124": "uint8 weights meet int8 activations on Arm",
    "D126": "an operator reads and writes different integer types",
    "D130": "float for an unknown reason",
    "D201": "a float operator is quantized when the model is loaded",
    "D202": "products may saturate 16 bits",
    "D203": "the scales of a weight do not run over its outputs",
    "D301": "the scale of an elementwise operator is not a scalar",
    "D302": "an activation of a product has a scale per channel",
    "D303": "scales per channel below opset 13",
    "D401": "a convolution of dynamic quantization",
    "D402": "an integer product that is not fused",
    "D403": "a Clip stands between Q and DQ",
}


class GraphOptError(Exception):
    """An error that is the user's to solve; shown without a traceback.

    Args:
        message: states the fact, with the user's own names in backticks.
        code: one of ``CODES``; defaults to the first code of the class.
        where: the place: file, file:line, node, pass or plugin.
        hint: what to do about it.
    """

    default_code = "G000"
    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.where = where
        self.hint = hint
        if self.code not in CODES:
            raise LookupError(f"error code {self.code} is not listed in graphopt.errors.CODES")

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class RecipeError(GraphOptError):
    """A recipe or an option is wrong (G1xx)."""

    default_code = "G103"


class ModelError(GraphOptError):
    """The model is unreadable, illegal or not supported (G201 to G209, G215)."""

    default_code = "G201"


class DataError(GraphOptError):
    """The calibration or validation data is wrong (G211 to G214)."""

    default_code = "G211"


class PassError(GraphOptError):
    """A pass failed; names the pass and, where known, the node and the plugin (G3xx)."""

    default_code = "G301"


class PluginError(GraphOptError):
    """A plugin is broken, conflicting or of another version (G4xx)."""

    default_code = "G401"


class TargetError(GraphOptError):
    """The target is unknown or cannot hold the model (G5xx)."""

    default_code = "G501"


class WorkerError(GraphOptError):
    """Workers cannot be had, differ, or died of a task (G6xx)."""

    default_code = "G602"


class LimitError(GraphOptError):
    """A limit was exceeded, stated or of the target; nothing was written (G503, G507)."""

    default_code = "G503"
    exit_code = 1
    compiled: object | None = None
    """The compiled model, where there is one: what ``--keep`` writes all the same."""
    search: object | None = None
    """The record of the search that found it, where there was one."""
