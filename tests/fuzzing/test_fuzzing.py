"""Random legal graphs through each exact pass, pairs of passes and the whole recipe.

``GRAPHOPT_FUZZ_EXAMPLES`` asks for more examples than the few that every run tries, and for others
each time. ``benchmarks/fuzz_passes.py`` tries many more in the same time, without shrinking them.
"""

from __future__ import annotations

import os
from collections import Counter

import hypothesis
from hypothesis import strategies as st

from graphopt.recipe import instantiate, preset
from graphopt.registry import Registry
from tests.backend.exact import EXACT_PASSES
from tests.fuzzing.choices import Drawn, Seeded
from tests.fuzzing.models import Case, case_of, check, model

EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "0"))
FEWEST_OPERATORS = 100
LEAST_RUN = 0.6
"""Share of the graphs that the runtime takes as they stand; the others break a rule of an opset."""

settings = hypothesis.settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return a model that the runtime runs as it stands, and what it returns."""
    case = case_of(model(Drawn(draw)))
    hypothesis.assume(case is not None)
    assert case is not None
    return case


@settings
@hypothesis.given(case=cases())
def test_each_pass_keeps_the_outputs(case: Case) -> None:
    for name, make in EXACT_PASSES.items():
        check(case, [make()], name)


@settings
@hypothesis.given(case=cases(), data=st.data())
def test_pairs_of_passes_keep_the_outputs(case: Case, data: st.DataObject) -> None:
    pair = st.lists(st.sampled_from(sorted(EXACT_PASSES)), min_size=2, max_size=2)
    for names in data.draw(st.lists(pair, min_size=8, max_size=8)):
        check(case, [EXACT_PASSES[name]() for name in names], " then ".join(names))


@settings
@hypothesis.given(case=cases())
def test_the_lossless_recipe_keeps_the_outputs(case: Case) -> None:
    registry = Registry(plugins=())
    entries = preset("lossless").passes
    check(case, [instantiate(e, registry.pass_class(e.use)) for e in entries], "lossless")


def test_the_graphs_are_of_many_operators_and_mostly_run() -> None:
    made = [model(Seeded(seed)) for seed in range(200)]
    run = [c for m in made if (c := case_of(m)) is not None]
    found = Counter(n.op for c in run for n in c.graph.walk())
    assert len(found) >= FEWEST_OPERATORS, sorted(found)
    assert len(run) >= LEAST_RUN * len(made)
    assert len({c.graph.opset for c in run}) > 10


def test_a_seed_makes_the_same_graph_every_time() -> None:
    assert model(Seeded(5)) == model(Seeded(5)) != model(Seeded(6))
