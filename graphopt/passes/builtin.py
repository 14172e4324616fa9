"""The passes that come with graphopt, registered like anybody's."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.base import Pass

_FOLDERS = ("simplify", "rewrite", "quantize", "recover", "prune")


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Return the built-in passes; imported here, so that other look-ups stay cheap."""
    return [*_simplify(), *_rewrite(), *_fuse(), *_quantize(), *_recover(), *_prune()]


def _simplify() -> list[type[Pass]]:
    """Return the exact passes that make the graph smaller, or plain enough for the others."""
    from graphopt.passes.simplify.downgrade_opset import DowngradeOpset
    from graphopt.passes.simplify.drop_expands import DropExpands
    from graphopt.passes.simplify.eliminate_dead import EliminateDead
    from graphopt.passes.simplify.eliminate_identity import EliminateIdentity
    from graphopt.passes.simplify.fix_initializers import FixInitializers
    from graphopt.passes.simplify.fold_constants import FoldConstants
    from graphopt.passes.simplify.fuse_conv_affine import FuseConvAffine
    from graphopt.passes.simplify.fuse_conv_batchnorm import FuseConvBatchnorm
    from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd
    from graphopt.passes.simplify.inline_branches import InlineBranches
    from graphopt.passes.simplify.inline_functions import InlineFunctions
    from graphopt.passes.simplify.join_casts import JoinCasts
    from graphopt.passes.simplify.join_concats import JoinConcats
    from graphopt.passes.simplify.join_pads import JoinPads
    from graphopt.passes.simplify.join_reshapes import JoinReshapes
    from graphopt.passes.simplify.join_scales import JoinScales
    from graphopt.passes.simplify.join_slices import JoinSlices
    from graphopt.passes.simplify.join_transposes import JoinTransposes
    from graphopt.passes.simplify.merge_equal_constants import MergeEqualConstants
    from graphopt.passes.simplify.merge_equal_nodes import MergeEqualNodes
    from graphopt.passes.simplify.simplify_arithmetic import SimplifyArithmetic
    from graphopt.passes.simplify.upgrade_opset import UpgradeOpset

    return [
        DowngradeOpset,
        DropExpands,
        EliminateDead,
        EliminateIdentity,
        FixInitializers,
        FoldConstants,
        FuseConvAffine,
        FuseConvBatchnorm,
        FuseMatmulAdd,
        InlineBranches,
        InlineFunctions,
        JoinCasts,
        JoinConcats,
        JoinPads,
        JoinReshapes,
        JoinScales,
        JoinSlices,
        JoinTransposes,
        MergeEqualConstants,
        MergeEqualNodes,
        SimplifyArithmetic,
        UpgradeOpset,
    ]


def _rewrite() -> list[type[Pass]]:
    """Return the exact passes that write the same function with operators that run fast."""
    from graphopt.passes.rewrite.align_channels import AlignChannels
    from graphopt.passes.rewrite.convert_conv_to_matmul import ConvertConvToMatmul
    from graphopt.passes.rewrite.fold_pad import FoldPad
    from graphopt.passes.rewrite.fold_shapes import FoldShapes
    from graphopt.passes.rewrite.fold_small_products import FoldSmallProducts
    from graphopt.passes.rewrite.keep_sums_apart import KeepSumsApart
    from graphopt.passes.rewrite.lift_activations import LiftActivations
    from graphopt.passes.rewrite.merge_data_movement import MergeDataMovement
    from graphopt.passes.rewrite.merge_matrix_products import MergeMatrixProducts
    from graphopt.passes.rewrite.merge_transposes import MergeTransposes
    from graphopt.passes.rewrite.replace_binary_softmax import ReplaceBinarySoftmax
    from graphopt.passes.rewrite.replace_group_norm import ReplaceGroupNorm
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
        FoldSmallProducts,
        KeepSumsApart,
        LiftActivations,
        MergeDataMovement,
        MergeMatrixProducts,
        MergeTransposes,
        ReplaceBinarySoftmax,
        ReplaceGroupNorm,
        ReplaceHardSwish,
        ReplaceReduceMean,
        ReplaceStridedSlice,
        ReplaceSubDiv,
        ReplaceSum,
        SinkReshapes,
        UnrollLstm,
    ]


def _fuse() -> list[type[Pass]]:
    """Return the exact passes that find what is spelled out, and write one operator for it."""
    from graphopt.passes.rewrite.fuse_activations import FuseActivations
    from graphopt.passes.rewrite.fuse_attention import FuseAttention
    from graphopt.passes.rewrite.fuse_gelu import FuseGelu
    from graphopt.passes.rewrite.fuse_layer_norm import FuseLayerNorm
    from graphopt.passes.rewrite.fuse_rms_norm import FuseRmsNorm
    from graphopt.passes.rewrite.fuse_rotary_embedding import FuseRotaryEmbedding
    from graphopt.passes.rewrite.fuse_softmax import FuseSoftmax
    from graphopt.passes.rewrite.spell_out_activations import SpellOutActivations

    return [
        FuseActivations,
        FuseAttention,
        FuseGelu,
        FuseLayerNorm,
        FuseRmsNorm,
        FuseRotaryEmbedding,
        FuseSoftmax,
        SpellOutActivations,
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
    from graphopt.passes.recover.equalize_clipped_layers import EqualizeClippedLayers
    from graphopt.passes.recover.equalize_layers import EqualizeLayers
    from graphopt.passes.recover.rotate_matmuls import RotateMatmuls
    from graphopt.passes.recover.smooth_activations import SmoothActivations

    return [
        CorrectBias,
        EqualizeClippedLayers,
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


def find_pass(name: str) -> type[Pass] | None:
    """Return a built-in pass without importing the others: its module is called as it is."""
    module = name.replace("-", "_")
    for folder in _FOLDERS:
        if module.isidentifier() and (Path(__file__).parent / folder / f"{module}.py").exists():
            found = vars(import_module(f"graphopt.passes.{folder}.{module}")).values()
            return next((kind for kind in found if _is_pass(kind, name)), None)
    return None


def _is_pass(kind: Any, name: str) -> bool:
    return isinstance(kind, type) and getattr(kind, "name", None) == name and hasattr(kind, "run")


FINDERS = {"passes": find_pass}
"""By the end of a hook's name: what finds one thing of those that the hook returns, or None."""
