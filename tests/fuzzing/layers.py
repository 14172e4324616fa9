"""Steps that networks are made of, and near misses of the spellings that passes look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzzing.builder import OPEN, Builder, Item

if TYPE_CHECKING:
    from tests.fuzzing.steps import Step


def matmul(b: Builder) -> None:
    """Multiply by a matrix, and mostly add a row, or something that is no row."""
    x = b.item(least=2)
    if x is None:
        return
    columns = b.number(1, 5)
    name = b.call("MatMul", [x.name, b.floats(int(x.shape[-1]), columns)])
    made = b.keep(name, (*x.shape[:-1], columns))
    if b.flag():
        shape = b.pick([(columns,), (1, columns), (1,), (1, 1, columns)])
        shape = shape if len(shape) <= x.rank else (columns,)
        order = b.pick([[name, b.floats(*shape)], [b.floats(*shape), name]])
        b.keep(b.call("Add", order), made.shape)


def gemm(b: Builder) -> None:
    x = b.item(rank=2)
    if x is None:
        return
    columns, turned = b.number(1, 5), b.number(0, 1)
    rows = int(x.shape[1])
    weight = b.floats(columns, rows) if turned else b.floats(rows, columns)
    operands = [x.name, weight, *([b.floats(*b.pick([(columns,), (1, columns), (1,)]))] * b.flag())]
    name = b.call(
        "Gemm", operands, transB=turned, alpha=b.pick([1.0, 0.5]), beta=b.pick([1.0, 2.0])
    )
    b.keep(name, (x.shape[0], columns))
    if b.flag():
        _normalize(b, b.items[-1])


def einsum(b: Builder) -> None:
    x = b.item(rank=3)
    if x is not None:
        weight = b.floats(int(x.shape[2]), 2)
        b.keep(
            b.call("Einsum", [x.name, weight], equation="bij,jk->bki"), (x.shape[0], 2, x.shape[1])
        )


def _maps(b: Builder) -> Item:
    """Return a value of four axes; makes one where there is none with room for a kernel."""
    fit = [i for i in b.items if i.rank == 4 and min(i.inner) >= 1 and min(i.inner[1:]) >= 3]
    return b.pick(fit) if fit else b.feed((OPEN, 2, 5, 6))


def _normalize(b: Builder, x: Item) -> None:
    channels = int(x.shape[1])
    numbers = [b.floats(channels) for _ in range(3)]
    name = b.call("BatchNormalization", [x.name, *numbers, b.positive(channels)],
                  epsilon=b.pick([1e-5, 1e-2]))  # fmt: skip
    b.keep(name, x.shape)


def _pad(b: Builder, x: Item) -> tuple[Item, list[int]]:
    """Pad the spatial axes, mostly with zeros."""
    around = [b.number(0, 1) for _ in range(4)]
    mode = b.pick(["constant", "constant", "edge"])
    value = b.pick(["", b.filled(0.0), b.filled(0.5)])
    widths = b.integers(0, 0, *around[:2], 0, 0, *around[2:])
    name = b.call("Pad", [x.name, widths, value], mode=mode)
    _, channels, height, width = x.shape
    shape = (x.shape[0], channels, int(height) + around[0] + around[2],
             int(width) + around[1] + around[3])  # fmt: skip
    return b.keep(name, shape), around


def convolution(b: Builder) -> None:
    """Convolve, perhaps padded before, normalized and activated after."""
    x = _maps(b)
    if b.flag():
        x, _ = _pad(b, x)
    channels = int(x.shape[1])
    group = b.pick([1, channels])
    out = channels * b.number(1, 2)
    kernel = b.pick([1, 3])
    pads = [b.number(0, 1) for _ in range(4)] if kernel == 3 else [0] * 4
    stride = b.number(1, 2)
    operands = [x.name, b.floats(out, channels // group, kernel, kernel)]
    if b.flag():
        operands.append(b.floats(out))
    name = b.call("Conv", operands, group=group, pads=pads, strides=[stride, stride])
    height, width = ((int(x.shape[2 + i]) + pads[i] + pads[2 + i] - kernel) // stride + 1
                     for i in (0, 1))  # fmt: skip
    b.keep(name, (x.shape[0], out, height, width))
    if b.flag():
        _normalize(b, b.items[-1])
    if b.flag():
        b.keep(b.call("Relu", [b.items[-1].name]), b.items[-1].shape)


def transposed_convolution(b: Builder) -> None:
    x = _maps(b)
    channels = int(x.shape[1])
    group = b.pick([1, channels])
    out = b.number(1, 2)
    name = b.call("ConvTranspose", [x.name, b.floats(channels, out, 2, 2)], group=group,
                  strides=[2, 2])  # fmt: skip
    b.keep(name, (x.shape[0], out * group, 2 * int(x.shape[2]), 2 * int(x.shape[3])))
    if b.flag():
        _normalize(b, b.items[-1])


def normalization(b: Builder) -> None:
    x = _maps(b)
    op = b.pick(["BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization"])
    if op == "BatchNormalization":
        _normalize(b, x)
        return
    channels = int(x.shape[1])
    more = [b.floats(channels), b.floats(channels)] if op.startswith("Instance") else []
    attributes = {"size": 3} if op == "LRN" else {}
    b.keep(b.call(op, [x.name, *more], **attributes), x.shape)


def pooling(b: Builder) -> None:
    x = _maps(b)
    if b.flag():
        x, _ = _pad(b, x)
    op = b.pick(["MaxPool", "AveragePool"])
    pads = [b.number(0, 1) for _ in range(4)]
    attributes = {} if op == "MaxPool" else {"count_include_pad": b.number(0, 1)}
    name = b.call(op, [x.name], kernel_shape=[3, 3], pads=pads, **attributes)
    height, width = (int(x.shape[2 + i]) + pads[i] + pads[2 + i] - 2 for i in (0, 1))
    b.keep(name, (*x.shape[:2], height, width))


def whole_pooling(b: Builder) -> None:
    x = _maps(b)
    kept = b.number(0, 1)
    match b.pick(["pool", "mean", "steps"]):
        case "pool":
            name = b.call(b.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x.name])
            kept = 1
        case "mean":
            name = b.call("ReduceMean", [x.name], axes=b.pick([[2, 3], [-1, -2]]), keepdims=kept)
        case _:
            first = b.call("ReduceMean", [x.name], axes=[3], keepdims=kept)
            name = b.call("ReduceMean", [first], axes=[2], keepdims=kept)
    b.keep(name, (*x.shape[:2], *([1, 1] if kept else [])))


def resampling(b: Builder) -> None:
    x = _maps(b)
    height, width = int(x.shape[2]), int(x.shape[3])
    if b.flag() and not height % 2 and not width % 2:
        name = b.call("SpaceToDepth", [x.name], blocksize=2)
        b.keep(name, (x.shape[0], 4 * int(x.shape[1]), height // 2, width // 2))
        if b.flag():
            name = b.call("DepthToSpace", [name], blocksize=2, mode=b.pick(["DCR", "CRD"]))
            b.keep(name, x.shape)
        return
    scales = b.call("Concat", [b.filled(1.0, 1)] * 2 + [b.filled(2.0, 1)] * 2, axis=0)
    name = b.call("Resize", [x.name, "", scales], mode=b.pick(["nearest", "linear"]))
    b.keep(name, (*x.shape[:2], 2 * height, 2 * width))


def shortcut(b: Builder) -> None:
    """Take every second pixel and add channels of zeros, or nearly that."""
    x = _maps(b)
    step = b.number(1, 2)
    start = b.pick([0, 0, 1])
    axes = [b.integers(v, v) for v in (start, 1 << 40)]
    taken = b.call("Slice", [x.name, *axes, b.integers(2, 3), b.integers(step, step)])
    height, width = (len(range(start, int(d), step)) for d in x.shape[2:])
    more = b.number(0, 2)
    value = b.pick([b.filled(0.0), b.filled(0.5), ""])
    name = b.call("Pad", [taken, b.integers(0, more, 0, 0, 0, 1, 0, 0), value])
    b.keep(name, (x.shape[0], int(x.shape[1]) + more + 1, height, width))


class _Ranks:
    """Draws how many axes constants of one element have, perhaps one more than the value."""

    def __init__(self, b: Builder, x: Item) -> None:
        self._b = b
        self._x = x
        # The open axis must stay in front.
        self._most = x.rank + int(OPEN not in x.shape and x.rank < 4 and b.flag())
        self._widest = 0

    def filled(self, value: float) -> str:
        """Return a constant of one element."""
        rank = self._b.pick([0, 1, self._most]) if self._most else 0
        rank = min(rank, self._most)
        self._widest = max(self._widest, rank)
        return self._b.filled(value, rank)

    def keep(self, name: str) -> None:
        """Make what was computed with the constants a value."""
        shape = self._x.shape
        self._b.keep(name, (1, *shape) if self._widest > len(shape) else shape)


def layer_norm(b: Builder) -> None:
    """Spell a layer or root-mean-square normalization, with constants of several ranks."""
    x = b.item(least=2)
    if x is None or int(x.shape[-1]) < 3:
        return
    ranks = _Ranks(b, x)
    centred = x.name
    plain = b.flag()
    if plain:
        centred = b.call("Sub", [x.name, b.call("ReduceMean", [x.name], axes=[-1])])
    square = (
        b.call("Pow", [centred, ranks.filled(2.0)])
        if b.flag()
        else b.call("Mul", [centred, centred])
    )
    mean = b.call("ReduceMean", [square], axes=[-1])
    inside = b.call("Add", [mean, ranks.filled(b.pick([1e-2, 0.5]))])
    root = b.call("Sqrt", [inside])
    if b.flag():
        name = b.call("Div", [centred, root])
    else:
        name = b.call("Mul", [centred, b.call("Div", [ranks.filled(1.0), root])])
    columns = int(x.shape[-1])
    name = b.call("Mul", [name, b.floats(columns)])
    if b.flag():
        name = b.call("Add", [name, b.floats(*b.pick([(columns,), (1, columns), (1,)]))])
    ranks.keep(name)


def fused_norm(b: Builder) -> None:
    x = b.item(least=2)
    if x is not None:
        columns = int(x.shape[-1])
        more = [b.floats(columns)] * b.number(1, 2)
        b.keep(b.call("LayerNormalization", [x.name, *more], epsilon=0.01), x.shape)


def hard_swish(b: Builder) -> None:
    """Spell a hard sigmoid or swish with constants of several ranks."""
    x = b.item()
    assert x is not None
    ranks = _Ranks(b, x)
    three = ranks.filled(b.pick([3.0, 3.0, 2.0]))
    shifted = b.call("Add", b.pick([[x.name, three], [three, x.name]]))
    name = b.call("Clip", [shifted, b.filled(0.0), b.filled(6.0)])
    if b.flag():
        name = b.call("Mul", [x.name, name])
    if b.flag():
        name = b.call("Div", [name, ranks.filled(6.0)])
    else:
        name = b.call("Mul", [name, ranks.filled(1 / 6)])
    ranks.keep(name)


def attention(b: Builder) -> None:
    """Spell attention with two heads, perhaps masked, over rows of eight."""
    x = b.feed((OPEN, 3, 8))
    heads = []
    for order in ([0, 2, 1, 3], b.pick([[0, 2, 3, 1], [0, 2, 1, 3]]), [0, 2, 1, 3]):
        rows = b.call("MatMul", [x.name, b.floats(8, 8)])
        parted = b.call("Reshape", [rows, b.integers(0, 0, 2, 4)])
        heads.append((b.call("Transpose", [parted], perm=order), order))
    (q, _), (k, order), (v, _) = heads
    if order == [0, 2, 1, 3]:
        k = b.call("Transpose", [k], perm=[0, 1, 3, 2])
    scores = b.call("MatMul", [q, k])
    scores = b.call(b.pick(["Div", "Mul"]), [scores, b.filled(2.0, b.number(0, 1))])
    if b.flag():
        scores = b.call("Add", [scores, b.floats(*b.pick([(3, 3), (1, 1, 3, 3), (1, 2, 3, 3)]))])
    mixed = b.call("MatMul", [b.call("Softmax", [scores], axis=b.pick([-1, 3])), v])
    back = b.call("Transpose", [mixed], perm=[0, 2, 1, 3])
    b.keep(b.call("Reshape", [back, b.integers(0, 0, 8)]), (OPEN, 3, 8))


def recurrence(b: Builder) -> None:
    """Run a recurrent operator over a sequence that nothing else reads."""
    x = b.feed((b.pick([1, 2]), 1, 3))
    op, gates = b.pick([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    weights = [b.floats(1, gates * 2, 3), b.floats(1, gates * 2, 2), b.floats(1, 2 * gates * 2)]
    outputs = b.calls(op, [x.name, *weights[: b.number(2, 3)]], 2, hidden_size=2)
    b.keep(outputs[0], (x.shape[0], 1, 1, 2))
    b.keep(outputs[1], (1, 1, 2))


def largest(b: Builder) -> None:
    x = b.item(least=2, exact=True)
    if x is not None:
        count = b.number(1, int(x.shape[-1]))
        b.keep(b.calls("TopK", [x.name, b.integers(count)], 2, axis=-1)[0], (*x.shape[:-1], count))


def two_classes(b: Builder) -> None:
    x = b.feed((b.pick([1, 140]), 2))
    b.keep(b.call("Softmax", [x.name], axis=b.pick([-1, 1])), x.shape)


LAYERS: tuple[Step, ...] = (
    *(matmul, matmul, gemm, einsum, convolution, convolution, transposed_convolution),
    *(normalization, pooling, pooling, whole_pooling, resampling, shortcut, layer_norm, layer_norm),
    *(fused_norm, hard_swish, hard_swish, attention, recurrence, largest, two_classes),
)
