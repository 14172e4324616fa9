"""The passes that come with graphopt, registered like anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.base import Pass


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Return the built-in passes; imported here, so that other look-ups stay cheap."""
    from graphopt.passes.quantize.calibrate import Calibrate
    from graphopt.passes.quantize.insert_qdq import InsertQdq
    from graphopt.passes.simplify.eliminate_dead import EliminateDead
    from graphopt.passes.simplify.eliminate_identity import EliminateIdentity
    from graphopt.passes.simplify.fix_initializers import FixInitializers
    from graphopt.passes.simplify.fold_constants import FoldConstants
    from graphopt.passes.simplify.fuse_conv_batchnorm import FuseConvBatchnorm
    from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd
    from graphopt.passes.simplify.upgrade_opset import UpgradeOpset

    return [
        Calibrate,
        EliminateDead,
        EliminateIdentity,
        FixInitializers,
        FoldConstants,
        FuseConvBatchnorm,
        FuseMatmulAdd,
        InsertQdq,
        UpgradeOpset,
    ]
