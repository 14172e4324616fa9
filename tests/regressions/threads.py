"""Small models rebuilt from reports about other tools: what a graph optimiser can get wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thread:
    """A model, and the public reports of tools that broke one like it."""

    name: str
    reports: tuple[str, ...]
    text: str
    opset: int = 17
    spread: tuple[float, float] = (0.0, 1.0)
    """Mean and deviation of float inputs."""


THREADS = (
    Thread(
        "slices of one axis after each other",
        ("inisis/OnnxSlim#277",),
        """m (float[4, 12] x) => (float[A, B] y, float[C, D] z)
        <int64[1] two = {2}, int64[1] ten = {10}, int64[1] one = {1}, int64[1] last = {-1},
         int64[1] four = {4}, int64[1] minus = {-2}, int64[1] far = {9223372036854775807},
         int64[1] nearest = {-9223372036854775807}> {
          a = Slice (x, two, ten, one)
          b = Slice (a, one, far, last, two)
          y = Slice (b, one, four, one)
          c = Slice (x, two, far, minus)
          z = Slice (c, far, nearest, one, minus)
        }""",
    ),
    Thread(
        "parts of a shape",
        ("onnx/optimizer#263", "tsingmicro-toolchain/OnnxSlim#38"),
        """m (float[N, 3, 5, H] x) => (int64[A] a, int64[B] b, int64[C] c, int64[D] d)
        <int64[1] one = {1}, int64[1] far = {100}, int64[1] minus = {-3}, int64[1] end = {-1},
         int64[1] axis = {0}, int64[1] back = {-1}, int64[1] before = {-100}> {
          s = Shape (x)
          a = Slice (s, minus, far, axis)
          b = Slice (s, end, before, axis, back)
          c = Shape <start = 1, end = -1> (x)
          t = Shape <start = -3> (x)
          d = Slice (t, one, far)
        }""",
    ),
    Thread(
        "states as long as an open batch",
        ("inisis/OnnxSlim#15", "inisis/OnnxSlim#30", "huggingface/transformers.js#811"),
        """m (float[B, 1, T] x) => (float[B, U, 4] y)
        <int64[1] time = {0}, int64 batch = {0}, int64[1] one = {1}, int64[1] four = {4},
         float[1] scale = {1.5}, float[1] shift = {0.25}, float[1, 16, 1] w, float[1, 16, 4] r,
         float[1, 32] b, int64[1] first = {1}> {
          n = InstanceNormalization (x, scale, shift)
          p = Abs (n)
          q = Transpose <perm = [2, 0, 1]> (p)
          s = Shape (x)
          i = Gather <axis = 0> (s, batch)
          j = Unsqueeze (i, time)
          k = Concat <axis = 0> (one, j, four)
          h = ConstantOfShape (k)
          o, last, cell = LSTM <hidden_size = 4> (q, w, r, b, "", h, h)
          u = Squeeze (o, first)
          v = Transpose <perm = [1, 0, 2]> (u)
          y = LogSoftmax <axis = -1> (v)
        }""",
    ),
    Thread(
        "shapes from two open dimensions",
        ("inisis/OnnxSlim#177", "inisis/OnnxSlim#192"),
        """m (float[N, T, 6] x) => (float[A, B, C, D] y, float[E, F] z)
        <int64[1] axis = {0}, int64 n = {0}, int64 t = {1}, int64[1] two = {2},
         int64[1] rest = {-1}, int64[1] six = {6}, int64 zero = {0}, int64 step = {1}> {
          s = Shape (x)
          i = Gather <axis = 0> (s, n)
          j = Gather <axis = 0> (s, t)
          p = Unsqueeze (i, axis)
          q = Unsqueeze (j, axis)
          a = Concat <axis = 0> (p, q, two, rest)
          y = Reshape (x, a)
          r = Mul (p, q)
          f = Concat <axis = 0> (r, six)
          g = Reshape (x, f)
          k = Range (zero, j, step)
          l = Cast <to = 1> (k)
          o = ReduceSum <keepdims = 0> (l)
          z = Add (g, o)
        }""",
    ),
    Thread(
        "convolutions that share weights before different normalizations",
        ("onnx/optimizer#178", "onnx/optimizer#255", "onnxsim/onnxsim#79", "onnx/onnx#2677"),
        """m (float[1, 3, 6, 6] p, float[1, 3, 3, 3] q)
        => (float[1, 4, 6, 6] y, float[1, 4, 3, 3] z)
        <float[4, 3, 1, 1] w, float[4] c, float[4] g, float[4] h, float[4] s, float[4] t,
         float[4] m, float[4] v = {0.5, 1.0, 2.0, 0.25}> {
          a = Conv (p, w, c)
          b = Conv (q, w, c)
          y = BatchNormalization <epsilon = 0.01> (a, g, s, m, v)
          z = BatchNormalization (b, h, t, m, v)
        }""",
    ),
    Thread(
        "a convolution read beside its normalization",
        ("onnxsim/onnxsim#50", "onnx/optimizer#178"),
        """m (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y, float[1, 4, 6, 6] z)
        <float[4, 3, 1, 1] w, float[4] g, float[4] s, float[4] m,
         float[4] v = {0.5, 1.0, 2.0, 0.25}> {
          a = Conv (x, w)
          y = BatchNormalization (a, g, s, m, v)
          z = Sigmoid (a)
        }""",
    ),
    Thread(
        "normalizations whose parameters are Constant nodes",
        ("onnx/optimizer#133", "onnx/onnx#2401"),
        """m (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y)
        <float[3, 1, 1, 1] w, float[1, 3, 1, 1] k> {
          g = Constant <value_floats = [0.5, 2.0, -1.0]> ()
          s = Constant <value_floats = [1.0, 0.0, -1.0]> ()
          m = Constant <value_floats = [0.25, 0.5, 0.75]> ()
          v = Constant <value_floats = [1.0, 2.0, 3.0]> ()
          d = Conv <group = 3> (x, w)
          a = BatchNormalization (d, g, s, m, v)
          e = Conv <group = 3> (a, w)
          y = BatchNormalization (e, g, s, m, v)
        }""",
    ),
    Thread(
        "outputs that are inputs, constants, and each other",
        (
            "onnxsim/onnxsim#260",
            "onnxsim/onnxsim#227",
            "onnxsim/onnxsim#308",
            "inisis/OnnxSlim#329",
            "microsoft/onnxscript#2728",
        ),
        """m (float[2, 3] x) => (float[2, 3] same, float[2, 3] twin, float[2, 3] joined,
                                  float[3] ones, int64[2] shape, float[2, 3] a, float[2, 3] b)
        <float[3] k> {
          same = Identity (x)
          joined = Concat <axis = 0> (same)
          twin = Cast <to = 1> (joined)
          e = Exp (k)
          z = Sub (e, e)
          ones = Exp (z)
          shape = Shape (x)
          a = Relu (x)
          c = Relu (x)
          b = Transpose <perm = [0, 1]> (c)
        }""",
    ),
    Thread(
        "unsqueezes of a mask",
        ("onnxsim/onnxsim bench/RESULTS_refusion.md", "onnxsim/onnxsim#157"),
        """m (float[N, T] mask, float[N, 2, T, T] scores) => (float[N, 2, T, T] y, float[A, B] z)
        <int64[1] first = {1}, int64[1] second = {2}, float one = {1.0}, float low = {-10000.0},
         int64[2] both = {1, 2}, int64[1] last = {-1}, int64[2] ends = {0, -1}> {
          a = Unsqueeze (mask, first)
          b = Unsqueeze (a, second)
          c = Sub (one, b)
          d = Mul (c, low)
          e = Add (scores, d)
          y = Softmax <axis = -1> (e)
          f = Unsqueeze (mask, ends)
          g = Unsqueeze (f, last)
          h = Squeeze (g, last)
          i = Squeeze (h, last)
          j = Squeeze (i)
          k = Shape (mask)
          z = Reshape (j, k)
        }""",
    ),
    Thread(
        "squeezes counted from the end",
        ("onnx/optimizer#35", "onnx/optimizer#253"),
        """m (float[1, 5, 1, 1] x) => (float[1, 5] y, float[5, 1] z)
        <int64[1] last = {-1}, int64[1] axis = {0}> {
          a = Squeeze (x, last)
          y = Squeeze (a, last)
          b = Squeeze (x, axis)
          z = Squeeze (b, last)
        }""",
    ),
    Thread(
        "concatenation of one",
        ("onnx/optimizer#252",),
        """m (float[2, 3] x) => (float[2, 3] y, float[4, 3] z) {
          a = Concat <axis = 1> (x)
          y = Relu (a)
          b = Concat <axis = 0> (a, a)
          z = Concat <axis = -1> (b)
        }""",
    ),
    Thread(
        "dropout with a mask, and of nothing",
        ("onnx/optimizer#274",),
        """m (float[2, 3] x, float[2, 3] w) => (float[2, 3] y, bool[2, 3] kept, float[2, 3] z)
        <float half = {0.5}, float none = {0.0}, bool training = {1}, bool inference = {0}> {
          y, kept = Dropout (x, half, inference)
          a, unread = Dropout (w, none, training)
          z = Dropout (a)
        }""",
    ),
    Thread(
        "expands that broadcast, and that do not",
        ("onnx/optimizer#275",),
        """m (float[N, 1, 3] x, float[3] v) => (float[A, B, C] y, float[D, E, F] z, float[2, 3] w)
        <int64[3] wide = {1, 4, 1}, int64[3] ones = {1, 1, 1}, int64[2] two = {2, 3}> {
          y = Expand (x, wide)
          z = Expand (x, ones)
          w = Expand (v, two)
        }""",
    ),
    Thread(
        "flattens of every axis",
        ("onnx/optimizer#276",),
        """m (float[2, 3, 4] x, float[5] v) => (float[A, B] a, float[C, D] b, float[E, F] c,
                                                 float[1, 5] d, float[5, 1] e) {
          a = Flatten <axis = 0> (x)
          b = Flatten <axis = -1> (x)
          c = Flatten <axis = 3> (x)
          d = Flatten <axis = 0> (v)
          e = Flatten <axis = 1> (v)
        }""",
    ),
    Thread(
        "reshapes that copy sizes",
        ("onnx/optimizer#282", "onnxsim/onnxsim (Reshape of Reshape)"),
        """m (float[2, 3, 4] x, float[0, 3] none) => (float[4, 3, 2] y, float[3, 2, 4] z,
                                                       float[3, 0] e)
        <int64[2] flat = {0, 12}, int64[3] back = {4, 3, -1}, int64[3] over = {3, 0, -1},
         int64[2] row = {3, -1}, int64[3] turned = {3, 0, 0}, int64[3] again = {3, 2, 0},
         int64[2] empty = {3, 0}> {
          a = Reshape (x, flat)
          y = Reshape (a, back)
          p = Transpose <perm = [0, 2, 1]> (x)
          b = Reshape (p, row)
          c = Reshape (x, again)
          z = Reshape (c, over)
          e = Reshape <allowzero = 1> (none, empty)
        }""",
    ),
    Thread(
        "neutral operands that widen the result",
        ("onnx/optimizer#285",),
        """m (float[3] x, int64[3] k) => (float[1, 1, 3] a, float[2, 3] b, float[1, 3] c,
                                          int64[3] d, float[1, 3] e)
        <float[1, 1, 1] zero = {0}, float[2, 1] one = {1, 1}, float[1, 1] also = {1},
         int64 unit = {1}, float[1, 1] nothing = {0}> {
          a = Add (x, zero)
          b = Mul (x, one)
          c = Div (x, also)
          d = Div (k, unit)
          e = Sub (x, nothing)
        }""",
    ),
    Thread(
        "activations spelled with constants of more axes",
        ("onnx/optimizer#285",),
        """m (float[2, 3] x) => (float[1, 2, 3] y, float[1, 1, 2, 3] z)
        <float[1, 1, 1] three = {3}, float low = {0}, float high = {6}, float six = {6},
         float plain = {3}, float[1, 1, 1, 1] wide = {6}> {
          a = Add (x, three)
          b = Clip (a, low, high)
          c = Mul (x, b)
          y = Div (c, six)
          d = Add (x, plain)
          e = Clip (d, low, high)
          z = Div (e, wide)
        }""",
    ),
    Thread(
        "layer normalization whose constants have more axes",
        ("onnx/optimizer#285",),
        """m (float[2, 8] x) => (float[1, 2, 8] y)
        <float[1, 1, 1] eps = {0.00001}, float[8] scale, float[8] shift, float two = {2.0}> {
          m = ReduceMean <axes = [-1]> (x)
          d = Sub (x, m)
          p = Pow (d, two)
          v = ReduceMean <axes = [-1]> (p)
          e = Add (v, eps)
          r = Sqrt (e)
          n = Div (d, r)
          s = Mul (n, scale)
          y = Add (s, shift)
        }""",
    ),
    Thread(
        "layer normalization far from zero",
        ("microsoft/onnxruntime#17689",),
        """m (float[4, 64] x) => (float[4, 64] y)
        <float eps = {0.00001}, float[64] scale, float[64] shift, float two = {2.0}> {
          m = ReduceMean <axes = [-1]> (x)
          d = Sub (x, m)
          p = Mul (d, d)
          v = ReduceMean <axes = [-1]> (p)
          e = Add (v, eps)
          r = Sqrt (e)
          n = Div (d, r)
          s = Mul (n, scale)
          y = Add (s, shift)
        }""",
        spread=(300.0, 1.0),
    ),
    Thread(
        "padding that pads nothing, and that cuts",
        ("onnx/optimizer#278",),
        """m (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y, float[1, 2, 2, 5] z,
                                       float[1, 2, 5, 5] w, float[1, 2, 4, 4] u)
        <int64[8] none = {0, 0, 0, 0, 0, 0, 0, 0}, int64[8] cut = {0, 0, -1, 0, 0, 0, -1, 1},
         int64[8] ring = {0, 0, 1, 1, 0, 0, 1, 1}, float half = {0.5}, float[2, 2, 2, 2] k> {
          y = Pad (x, none)
          z = Pad (x, cut)
          a = Pad (x, ring, half)
          w = Conv (a, k)
          b = Pad <mode = "reflect"> (x, ring)
          u = MaxPool <kernel_shape = [3, 3]> (b)
        }""",
    ),
    Thread(
        "poolings of a padded tensor",
        ("onnx/optimizer#278",),
        """m (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] p, float[1, 2, 4, 4] q,
                                       float[1, 2, 3, 3] r, float[1, 2, 4, 4] s)
        <int64[8] ring = {0, 0, 1, 1, 0, 0, 1, 1}, float zero = {0}> {
          a = Pad (x, ring, zero)
          p = MaxPool <kernel_shape = [3, 3]> (a)
          q = AveragePool <kernel_shape = [3, 3]> (a)
          r = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (a)
          b = Relu (x)
          c = Pad (b, ring, zero)
          s = MaxPool <kernel_shape = [3, 3]> (c)
        }""",
    ),
    Thread(
        "split into one",
        ("onnx/optimizer#283",),
        """m (float[4, 3] x) => (float[4, 3] y, float[1, 3] a, float[3, 3] b)
        <int64[1] all = {4}, int64[2] sizes = {1, 3}> {
          y = Split <axis = 0> (x, all)
          a, b = Split <axis = -2> (x, sizes)
        }""",
    ),
    Thread(
        "transposes that undo each other",
        ("onnx/optimizer#284", "microsoft/onnxruntime#26761"),
        """m (float[2, 3, 4] x) => (float[2, 3, 4] y, float[4, 3, 2] z, float[3, 4, 2] w) {
          a = Transpose <perm = [1, 2, 0]> (x)
          y = Transpose <perm = [2, 0, 1]> (a)
          z = Transpose (x)
          w = Transpose <perm = [1, 2, 0]> (x)
        }""",
    ),
    Thread(
        "axes of a squeeze that only a branch holds",
        ("microsoft/onnxscript#2810",),
        """m (float[1, N, 3] x, bool c) => (float[A, B] y) {
          y = If (c) <
            then_branch = one () => (float[N, 3] p) <int64[1] axes = {0}> { p = Squeeze (x, axes) },
            else_branch = two () => (float[N, 3] q) {
              a = Constant <value_ints = [0]> ()
              b = Squeeze (x, a)
              s = Constant <value_float = 2.0> ()
              r = Sqrt (s)
              q = Mul (b, r)
            }
          >
        }""",
    ),
    Thread(
        "a branch that returns a constant, and one that captures",
        ("microsoft/onnxscript#2728",),
        """m (float[2] x, bool c) => (float[2] y)
        <float[2] k = {0.5, -2.0}> {
          ones = Constant <value_floats = [1.0, 1.0]> ()
          twice = Add (ones, ones)
          y = If (c) <
            then_branch = one () => (float[2] p) { p = Constant <value_floats = [3.0, 4.0]> () },
            else_branch = two () => (float[2] q) { q = Mul (twice, k) }
          >
        }""",
    ),
    Thread(
        "constants inside a function",
        ("microsoft/onnxscript#2673",),
        """<ir_version: 9, opset_import: ["this" : 1, "" : 19]>
        m (float x) => (float y) { y = this.f (x) }
        <domain: "this", opset_import: ["" : 19]>
        f (x) => (r) {
          one = Constant <value_int: int = 1> ()
          same = Cast <to: int = 1> (one)
          r = Sub (same, x)
        }""",
    ),
    Thread(
        "a resize of a constant",
        ("microsoft/onnxscript#2859",),
        """m (float[1, 1, 4, 6] x) => (float[1, 1, 4, 6] y)
        <float[1, 1, 2, 3] k, int64[4] sizes = {1, 1, 4, 6}> {
          a = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">
              (k, "", "", sizes)
          y = Add (x, a)
        }""",
    ),
    Thread(
        "views of a constant",
        ("microsoft/onnxruntime#29788",),
        """m (float[6] x) => (float[6] y, float[2, 3] z)
        <float[2, 3] k, int64[1] flat = {-1}, int64[1] start = {1}, int64[1] end = {2}> {
          a = Reshape (k, flat)
          b = Identity (a)
          y = Add (x, b)
          c = Slice (k, start, end)
          d = Add (k, c)
          z = Mul (d, d)
        }""",
    ),
    Thread(
        "a cast to the same type before a product with one",
        ("microsoft/onnxruntime#32416",),
        """m (float[2, 3] x) => (float[2, 3] y)
        <float one = {1.0}, float[3] k> {
          a = Div (one, one)
          mid = Cast <to = 1> (x)
          b = Mul (mid, a)
          y = Add (b, k)
        }""",
    ),
    Thread(
        "a skip before and after attention",
        ("microsoft/onnxruntime#18945", "microsoft/onnxruntime#20321"),
        """m (float[N, 5, 8] x) => (float[N, 5, 8] y)
        <float[8, 8] wq, float[8, 8] wk, float[8, 8] wv, float[8, 8] wo, float[8] s, float[8] b,
         int64[4] parted = {0, 0, 2, 4}, int64[3] whole = {0, 0, 8}, float root = {2.0}> {
          q = MatMul (x, wq)
          k = MatMul (x, wk)
          v = MatMul (x, wv)
          qp = Reshape (q, parted)
          kp = Reshape (k, parted)
          vp = Reshape (v, parted)
          qh = Transpose <perm = [0, 2, 1, 3]> (qp)
          kh = Transpose <perm = [0, 2, 3, 1]> (kp)
          vh = Transpose <perm = [0, 2, 1, 3]> (vp)
          scores = MatMul (qh, kh)
          scaled = Div (scores, root)
          share = Softmax <axis = -1> (scaled)
          mixed = MatMul (share, vh)
          t = Transpose <perm = [0, 2, 1, 3]> (mixed)
          r = Reshape (t, whole)
          o = MatMul (r, wo)
          skip = Add (x, o)
          y = LayerNormalization (skip, s, b)
        }""",
    ),
)
