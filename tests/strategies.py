"""Hypothesis strategies: small legal ONNX models that use every corner of the format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx import helper as h

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = (DType.FLOAT, DType.DOUBLE, DType.INT32, DType.INT64)
FLOATS = (DType.FLOAT, DType.DOUBLE)
NARROW = (
    *(DType.FLOAT16, DType.BFLOAT16, DType.INT4, DType.UINT4, DType.INT2, DType.UINT2),
    *(DType.FLOAT8E4M3FN, DType.FLOAT8E4M3FNUZ, DType.FLOAT8E5M2, DType.FLOAT8E5M2FNUZ),
    *(DType.FLOAT8E8M0, DType.FLOAT4E2M1, DType.FLOAT6E2M3, DType.FLOAT6E3M2),
    *(DType.BOOL, DType.UINT8, DType.INT8, DType.UINT16, DType.INT16, DType.UINT32),
    *(DType.UINT64, DType.COMPLEX64, DType.COMPLEX128, DType.STRING),
)
WIDTH = 3
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@dataclass
class Feeds:
    """A model, and arrays to run it on."""

    model: onnx.ModelProto
    feeds: dict[str, np.ndarray[Any, Any]]


def tensors(dtype: DType, name: str, dims: tuple[int, ...]) -> st.SearchStrategy[TensorProto]:
    """Return tensors of any content: raw or in the field of their type, described or not."""
    count = int(np.prod(dims))

    @st.composite
    def build(draw: st.DrawFn) -> TensorProto:
        made = TensorProto(name=name, dims=dims, data_type=dtype)
        if dtype is DType.STRING:
            words = draw(st.lists(texts, min_size=count, max_size=count))
            made.string_data.extend(w.encode() for w in words)
        else:
            size = dtype.nbytes(count)
            made.raw_data = draw(st.binary(min_size=size, max_size=size))
            if draw(st.booleans()) and dtype not in {
                DType.BOOL,
                DType.FLOAT6E2M3,
                DType.FLOAT6E3M2,
            }:
                made = _in_typed_field(made, dtype)
        if draw(st.booleans()):
            made.doc_string = draw(texts)
            made.metadata_props.add(key="k", value=draw(texts))
        return made

    return build()


def _in_typed_field(raw: TensorProto, dtype: DType) -> TensorProto:
    """Store the same values the other way: packed types hold bytes, narrow ones their bits."""
    made = TensorProto(name=raw.name, dims=raw.dims, data_type=raw.data_type)
    fields = {
        DType.FLOAT: ("float_data", "<f4"),
        DType.COMPLEX64: ("float_data", "<f4"),
        DType.DOUBLE: ("double_data", "<f8"),
        DType.COMPLEX128: ("double_data", "<f8"),
        DType.INT64: ("int64_data", "<i8"),
        DType.UINT32: ("uint64_data", "<u4"),
        DType.UINT64: ("uint64_data", "<u8"),
        DType.INT32: ("int32_data", "<i4"),
        DType.INT16: ("int32_data", "<i2"),
        DType.INT8: ("int32_data", "<i1"),
    }
    bits = "<u2" if dtype.bits == 16 else "<u1"
    name, kind = fields.get(dtype, ("int32_data", bits))
    getattr(made, name).extend(np.frombuffer(raw.raw_data, kind).tolist())
    return made


@dataclass
class _Builder:
    """Grows a graph in which every tensor has the shape [rows, 3]."""

    draw: st.DrawFn
    rows: int | str
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    values: dict[str, DType] = field(default_factory=dict)
    initializers: list[TensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def pick(self, *dtypes: DType) -> str:
        return self.draw(st.sampled_from([n for n, d in self.values.items() if d in dtypes]))

    def info(self, name: str) -> onnx.ValueInfoProto:
        return h.make_tensor_value_info(name, self.values[name], [self.rows, WIDTH])

    def add(self, op: str, inputs: list[str], dtype: DType, **attributes: Any) -> str:
        output = self.name()
        node = h.make_node(op, inputs, [output], **attributes)
        self.decorate(node)
        self.nodes.append(node)
        self.values[output] = dtype
        return output

    def decorate(self, node: onnx.NodeProto) -> None:
        draw = self.draw
        if draw(st.booleans()):
            # onnxruntime refuses two nodes of one name, though ONNX does not.
            node.name = draw(st.just("") | texts.map(lambda t: f"{t}{self.prefix}{self.count}"))
        if draw(st.integers(0, 3)) == 0:
            node.doc_string = draw(texts)
            node.metadata_props.add(key="namespace", value=draw(texts))

    def constant(self, dtype: DType, dims: tuple[int, ...]) -> str:
        name = self.name()
        kind = h.tensor_dtype_to_np_dtype(dtype)
        values = self.draw(st.lists(st.integers(-3, 3), min_size=WIDTH, max_size=WIDTH))
        array = np.resize(np.array(values), dims).astype(kind)
        proto = numpy_helper.from_array(array, name)
        if self.draw(st.booleans()):
            self.initializers.append(proto)
        else:
            self.nodes.append(h.make_node("Constant", [], [name], value=proto))
        return name


def _elementwise(b: _Builder) -> None:
    op = b.draw(st.sampled_from(["Add", "Sub", "Mul", "Max"]))
    left = b.pick(*NUMBERS)
    dtype = b.values[left]
    right = b.draw(st.sampled_from([b.pick(dtype), b.constant(dtype, (WIDTH,))]))
    b.add(op, [left, right], dtype)


def _unary(b: _Builder) -> None:
    op = b.draw(st.sampled_from(["Neg", "Abs", "Identity", "Sign"]))
    source = b.pick(*NUMBERS)
    b.add(op, [source], b.values[source])


def _cast(b: _Builder) -> None:
    dtype = b.draw(st.sampled_from(NUMBERS))
    b.add("Cast", [b.pick(*NUMBERS)], dtype, to=int(dtype))


def _matmul(b: _Builder) -> None:
    source = b.pick(*NUMBERS)
    dtype = b.values[source]
    b.add("MatMul", [source, b.constant(dtype, (WIDTH, WIDTH))], dtype)


def _clip(b: _Builder) -> None:
    source = b.pick(*NUMBERS)
    dtype = b.values[source]
    limit = b.constant(dtype, ())
    inputs = b.draw(st.sampled_from([[source], [source, "", limit], [source, limit]]))
    b.add("Clip", inputs, dtype)


def _dropout(b: _Builder) -> None:
    source = b.pick(*FLOATS)
    output = b.add("Dropout", [source], b.values[source])
    if b.draw(st.booleans()):
        b.nodes[-1].output.append("")
    assert b.nodes[-1].output[0] == output


def _branch(b: _Builder) -> None:
    """Add an If whose branches read values of this graph."""
    source = b.pick(*NUMBERS)
    dtype = b.values[source]
    bodies = {}
    for key in ("then_branch", "else_branch"):
        inner = _Builder(b.draw, b.rows, f"{b.prefix}{key[0]}{b.name()}_", values=dict(b.values))
        result = inner.add(b.draw(st.sampled_from(["Neg", "Abs"])), [source], dtype)
        if b.draw(st.booleans()):
            result = inner.add("Add", [result, inner.constant(dtype, (WIDTH,))], dtype)
        graph = h.make_graph(inner.nodes, key, [], [inner.info(result)], inner.initializers)
        graph.doc_string = b.draw(texts)
        bodies[key] = graph
    b.add("If", ["flag"], dtype, **bodies)


def _loop(b: _Builder) -> None:
    """Add a Loop that carries one value and captures another."""
    source, captured = b.pick(DType.FLOAT), b.pick(DType.FLOAT)
    p = f"{b.prefix}l{b.name()}_"
    body = h.make_graph(
        [
            h.make_node("Identity", [f"{p}cond"], [f"{p}go"]),
            h.make_node("Add", [f"{p}in", captured], [f"{p}out"], name=b.draw(texts)),
        ],
        "body",
        [
            h.make_tensor_value_info(f"{p}i", TensorProto.INT64, []),
            h.make_tensor_value_info(f"{p}cond", TensorProto.BOOL, []),
            h.make_tensor_value_info(f"{p}in", TensorProto.FLOAT, [b.rows, WIDTH]),
        ],
        [
            h.make_tensor_value_info(f"{p}go", TensorProto.BOOL, []),
            h.make_tensor_value_info(f"{p}out", TensorProto.FLOAT, [b.rows, WIDTH]),
        ],
    )
    trips = numpy_helper.from_array(np.array(b.draw(st.integers(0, 3))), f"{p}trips")
    b.initializers.append(trips)
    b.add("Loop", [f"{p}trips", "", source], DType.FLOAT, body=body)


def _call(b: _Builder) -> None:
    """Define a local function with an attribute parameter, and call it."""
    name = f"Scaled{len(b.functions)}"
    alpha = AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    leaky = h.make_node("LeakyRelu", ["a"], ["c"], doc_string="inside")
    leaky.attribute.append(alpha)
    function = h.make_function(
        "local", name, ["a"], ["c"], [leaky], [h.make_opsetid("", 17)], ["slope"]
    )
    function.doc_string = b.draw(texts)
    b.functions.append(function)
    b.add(name, [b.pick(DType.FLOAT)], DType.FLOAT, domain="local", slope=0.25)


_STEPS: tuple[Callable[[_Builder], None], ...] = (
    *(_elementwise, _unary, _cast, _matmul, _clip, _dropout, _branch, _loop, _call),
)


@st.composite
def runnable_models(draw: st.DrawFn) -> Feeds:
    """Return legal models that onnxruntime runs, each with arrays to run it on."""
    rows = draw(st.sampled_from([2, "N"]))
    b = _Builder(draw, rows, draw(st.sampled_from(["", "t", "größe/", "a b:"])))
    b.values = {"x": DType.FLOAT, "k": draw(st.sampled_from(NUMBERS))}
    inputs = [b.info("x"), b.info("k"), h.make_tensor_value_info("flag", TensorProto.BOOL, [])]
    for _ in range(draw(st.integers(1, 8))):
        draw(st.sampled_from(_STEPS))(b)
    made = list(dict.fromkeys(o for n in b.nodes for o in n.output if o in b.values))
    kept = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    graph = h.make_graph(b.nodes, "g", inputs, [b.info(n) for n in kept], b.initializers)
    told = [n for n in made if n not in kept and draw(st.booleans())]
    graph.value_info.extend(b.info(n) for n in told)
    if b.initializers and draw(st.booleans()):
        _make_overridable(graph, draw(st.sampled_from(b.initializers)))
    model = h.make_model(
        graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, functions=b.functions
    )
    if b.functions:
        model.opset_import.add(domain="local", version=1)
    _describe(draw, model, made)
    values = np.arange(2 * WIDTH).reshape(2, WIDTH) - 2
    kind = h.tensor_dtype_to_np_dtype(b.values["k"])
    feeds = {"x": values.astype(np.float32) / 2, "k": values.astype(kind)}
    return Feeds(model, {**feeds, "flag": np.array(draw(st.booleans()))})


def _make_overridable(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    """List an initializer as an input too, which makes its value a default."""
    graph.input.append(h.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def _describe(draw: st.DrawFn, model: onnx.ModelProto, names: list[str]) -> None:
    """Add what does not change the function: doc strings, metadata, annotations."""
    if draw(st.booleans()):
        model.doc_string, model.producer_name = draw(texts), draw(texts)
        model.graph.doc_string, model.model_version = draw(texts), 3
        model.graph.input[0].doc_string = draw(texts)
    for key in draw(st.lists(texts, max_size=2, unique=True)):
        model.metadata_props.add(key=key, value=draw(texts))
        model.graph.metadata_props.add(key=key, value=draw(texts))
        model.graph.input[0].metadata_props.add(key=key, value="of an input")
    if draw(st.booleans()):
        annotation = model.graph.quantization_annotation.add(
            tensor_name=draw(st.sampled_from(names))
        )
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=names[0])


@st.composite
def any_models(draw: st.DrawFn) -> onnx.ModelProto:
    """Return legal models that no runtime executes: any element type, sparse, odd attributes."""
    model = draw(runnable_models()).model
    model.ir_version = draw(st.sampled_from([8, 10, 11]))
    if draw(st.booleans()):
        model.opset_import[0].domain = "ai.onnx"
    for index, dtype in enumerate(draw(st.lists(st.sampled_from(NARROW), max_size=4))):
        dims = draw(st.sampled_from([(), (1,), (2, 3), (5,), (0,), (7, 1)]))
        tensor = draw(tensors(dtype, f"narrow{index}", dims))
        if draw(st.booleans()):
            model.graph.initializer.append(tensor)
        else:
            node = h.make_node("Constant", [], [tensor.name], value=tensor)
            model.graph.node.append(node)
    if draw(st.booleans()):
        _add_sparse(draw, model.graph)
    if draw(st.booleans()):
        _add_odd_node(draw, model)
    return model


def _add_sparse(draw: st.DrawFn, graph: onnx.GraphProto) -> None:
    values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([0, 4]), "sparse_indices")
    graph.sparse_initializer.append(h.make_sparse_tensor(values, indices, [2, WIDTH]))
    if draw(st.booleans()):
        graph.node.append(h.make_node("MatMul", ["x", "sparse"], ["from_sparse"]))


def _add_odd_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    """Add a node of an unknown domain with every kind of attribute."""
    tensor = draw(tensors(DType.INT4, "", (3,)))
    sparse = h.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32)), numpy_helper.from_array(np.array([2])), [3]
    )
    kind = h.make_optional_type_proto(
        h.make_sequence_type_proto(h.make_tensor_type_proto(TensorProto.STRING, None))
    )
    result = h.make_tensor_value_info("odd_inner", TensorProto.FLOAT, None)
    inner = h.make_graph([h.make_node("Neg", ["x"], ["odd_inner"])], "inner", [], [result])
    node = h.make_node(
        *("Odd", ["x", "", "k"], ["odd"]),
        domain="com.example",
        number=draw(st.floats(width=32)),
        numbers=draw(st.lists(st.floats(width=32), min_size=1, max_size=3)),
        count=draw(st.integers(-(2**63), 2**63 - 1)),
        counts=[1, 2],
        text=draw(st.binary(max_size=6)),
        texts=[b"\xff\xfe", b"plain"],
        tensor=tensor,
        tensors=[tensor, numpy_helper.from_array(np.zeros(2))],
        sparse=sparse,
        kind=kind,
        graph=inner,
        graphs=[inner, inner],
    )
    model.graph.node.append(node)
    model.opset_import.add(domain="com.example", version=draw(st.integers(1, 3)))
    model.graph.value_info.append(h.make_value_info("odd", kind, doc_string=draw(texts)))
