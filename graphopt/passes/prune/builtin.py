"""The importance criteria that come with graphopt, registered like anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.prune.importance.base import Importance


@hookimpl
def graphopt_register_importance() -> list[type[Importance]]:
    """Return the built-in criteria; imported here, so that other look-ups stay cheap."""
    from graphopt.passes.prune.importance.block_obs import BlockObs
    from graphopt.passes.prune.importance.fpgm import Fpgm
    from graphopt.passes.prune.importance.magnitude import MagnitudeL1, MagnitudeL2
    from graphopt.passes.prune.importance.random import Random
    from graphopt.passes.prune.importance.wanda import Wanda

    return [BlockObs, Fpgm, MagnitudeL1, MagnitudeL2, Random, Wanda]
