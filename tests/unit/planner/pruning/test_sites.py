"""Which widths are tried, and what excludes what."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.branches import residual_branches
from graphopt.analysis.coupling import Coupling, couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.planner.pruning.blocks import build_blocks
from graphopt.planner.pruning.knapsack import Option
from graphopt.planner.pruning.sites import width_sites, widths_of
from graphopt.testing import graph

RULES = {rule.name: rule for rule in BUILTIN_RULES}


def coupled(text: str) -> tuple[ir.Graph, Coupling]:
    made = graph(text)
    ir.infer_shapes(made)
    return made, couple(made, RULES)


def chain(channels: int, groups: int = 1) -> tuple[ir.Graph, Coupling]:
    return coupled(f"""
    g (float[1,3,4,4] x) => (float[1,4,4,4] y)
    <float[{channels},3,1,1] first, float[4,{channels // groups},1,1] second> {{
      a = Conv(x, first)
      b = Relu(a)
      y = Conv<group = {groups}>(b, second)
    }}
    """)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (16, (4, 8, 12)),
        (32, (8, 16, 24)),
        (64, (8, 16, 24, 32, 40, 48, 56)),
        (36, (8, 16, 24, 32)),
        (3, (1, 2)),
    ],
)
def test_widths_are_round_numbers_of_channels(channels: int, expected: tuple[int, ...]) -> None:
    _, found = chain(channels)
    assert widths_of(found.groups[0]) == expected


def test_wide_groups_are_tried_near_their_width_and_at_few_others() -> None:
    _, found = chain(288)
    widths = widths_of(found.groups[0])
    assert widths[-3:] == (264, 272, 280)
    assert widths[0] == 8
    assert len(widths) < 20
    assert all(width % 8 == 0 for width in widths)


def test_parts_of_a_grouped_convolution_stay_equal() -> None:
    _, found = chain(24, groups=4)
    (group,) = found.groups
    assert group.step == 4
    assert all((24 - width) % 4 == 0 for width in widths_of(group))


RESIDUAL = """
g (float[1,16,4,4] x) => (float[1,4,4,4] y)
<float[16,16,1,1] stem, float[32,16,1,1] up, float[16,32,1,1] down, float[4,16,1,1] head> {
  s = Conv(x, stem)
  a = Conv(s, up)
  b = Relu(a)
  c = Conv(b, down)
  d = Add(s, c)
  y = Conv(d, head)
}
"""


def test_a_group_inside_a_branch_is_an_alternative_to_it() -> None:
    made, found = coupled(RESIDUAL)
    sites = width_sites(found, made.nodes())
    branches = residual_branches(made)
    assert [branch.name for branch in branches] == ["c"]
    options = {
        "up": [Option("up", "16", 0.1, 1.0)],
        "down": [Option("down", "8", 0.2, 1.0)],
        "c": [Option("c", "lin1", 0.3, 2.0)],
    }
    blocks = build_blocks(sites, branches, options)
    free = next(block for block in blocks if not block.inside)
    held = next(block for block in blocks if block.inside)
    assert [o.site for o in free.options] == ["down"]
    assert [o.site for o in held.options] == ["c"]
    assert [o.site for o in held.inside[0].options] == ["up"]


def test_sites_know_every_operator_that_touches_them() -> None:
    made, found = coupled(RESIDUAL)
    (site,) = (s for s in width_sites(found, made.nodes()) if s.name == "up")
    assert [node.outputs[0].name for node in site.nodes] == ["a", "b", "c"]
    assert np.array_equal(site.group.cells, np.zeros(32, dtype=np.int64))
