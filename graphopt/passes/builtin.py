"""The passes that come with graphopt, registered like anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.base import Pass


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Return the built-in passes; imported here, so that other look-ups stay cheap."""
    return [*_simplify(), *_rewrite(), *_quantize(), *_recover(), *_prune()]


def _simplify() -> list[type[Pass]]:
    """Return the exact passes that make the graph smaller, or plain enough for the others."""
    from graphopt.passes.simplify.eliminate_dead import EliminateDead
    from graphopt.passes.simplify.eliminate_identity import EliminateIdentity
    from graphopt.passes.simplify.fix_initializers import FixInitializers
    from graphopt.passes.simplify.fold_constants import FoldConstants
    from graphopt.passes.simplify.fuse_conv_batchnorm import FuseConvBatchnorm
    from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd
    from graphopt.passes.simplify.upgrade_opset import UpgradeOpset

    return [
        EliminateDead,
        EliminateIdentity,
        FixInitializers,
        FoldConstants,
        FuseConvBatchnorm,
        FuseMatmulAdd,
        UpgradeOpset,
    ]


def _rewrite() -> list[type[Pass]]:
    """Return the exact passes that write the same function with operators that run fast."""
    from graphopt.passes.rewrite.align_channels import AlignChannels
    from graphopt.passes.rewrite.convert_conv_to_matmul import ConvertConvToMatmul
    from graphopt.passes.rewrite.fold_pad import FoldPad
    from graphopt.passes.rewrite.fold_shapes import FoldShapes
    from graphopt.passes.rewrite.fuse_attention import FuseAttention
    from graphopt.passes.rewrite.fuse_layer_norm import FuseLayerNorm
    from graphopt.passes.rewrite.fuse_rms_norm import FuseRmsNorm
    from graphopt.passes.rewrite.fuse_rotary_embedding import FuseRotaryEmbedding
    from graphopt.passes.rewrite.merge_data_movement import MergeDataMovement
    from graphopt.passes.rewrite.merge_matrix_products import MergeMatrixProducts
    from graphopt.passes.rewrite.replace_binary_softmax import ReplaceBinarySoftmax
    from graphopt.passes.rewrite.replace_hard_swish import ReplaceHardSwish
    from graphopt.passes.rewrite.replace_reduce_mean import ReplaceReduceMean
    from graphopt.passes.rewrite.replace_strided_slice import ReplaceStridedSlice
    from graphopt.passes.rewrite.replace_sub_div import ReplaceSubDiv
    from graphopt.passes.rewrite.replace_sum import ReplaceSum
    from graphopt.passes.rewrite.sink_reshapes import SinkReshapes
    from graphopt.passes.rewrite.unroll_lstm import UnrollLstm

    return [
        AlignChannels,
        ConvertConvToMatmul,
        FoldPad,
        FoldShapes,
        FuseAttention,
        FuseLayerNorm,
        FuseRmsNorm,
        FuseRotaryEmbedding,
        MergeDataMovement,
        MergeMatrixProducts,
        ReplaceBinarySoftmax,
        ReplaceHardSwish,
        ReplaceReduceMean,
        ReplaceStridedSlice,
        ReplaceSubDiv,
        ReplaceSum,
        SinkReshapes,
        UnrollLstm,
    ]


def _quantize() -> list[type[Pass]]:
    """Return the passes that store and compute numbers in fewer bits."""
    from graphopt.passes.quantize.calibrate import Calibrate
    from graphopt.passes.quantize.insert_qdq import InsertQdq
    from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls
    from graphopt.passes.quantize.quantize_weights import QuantizeWeights
    from graphopt.passes.quantize.repair_qdq import RepairQdq
    from graphopt.passes.quantize.store_weights import StoreWeights

    return [
        Calibrate,
        InsertQdq,
        QuantizeMatmuls,
        QuantizeWeights,
        RepairQdq,
        StoreWeights,
    ]


def _recover() -> list[type[Pass]]:
    """Return the passes that win back the accuracy that fewer bits cost."""
    from graphopt.passes.recover.correct_bias import CorrectBias
    from graphopt.passes.recover.equalize_layers import EqualizeLayers
    from graphopt.passes.recover.rotate_matmuls import RotateMatmuls
    from graphopt.passes.recover.smooth_activations import SmoothActivations

    return [
        CorrectBias,
        EqualizeLayers,
        RotateMatmuls,
        SmoothActivations,
    ]


def _prune() -> list[type[Pass]]:
    """Return the passes that take out what matters least."""
    from graphopt.passes.prune.prune_channels import PruneChannels
    from graphopt.passes.prune.sparsify_weights import SparsifyWeights

    return [
        PruneChannels,
        SparsifyWeights,
    ]
