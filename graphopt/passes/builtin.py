"""The passes that come with graphopt, registered like anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.base import Pass


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Return the built-in passes; imported here, so that other look-ups stay cheap."""
    from graphopt.passes.calibrate import Calibrate
    from graphopt.passes.eliminate_dead import EliminateDead
    from graphopt.passes.eliminate_identity import EliminateIdentity
    from graphopt.passes.fix_initializers import FixInitializers
    from graphopt.passes.fold_constants import FoldConstants
    from graphopt.passes.fuse_conv_batchnorm import FuseConvBatchnorm
    from graphopt.passes.fuse_matmul_add import FuseMatmulAdd
    from graphopt.passes.insert_qdq import InsertQdq
    from graphopt.passes.upgrade_opset import UpgradeOpset

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
