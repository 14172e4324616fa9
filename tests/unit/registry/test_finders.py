"""What graphopt finds by name without collecting the rest is what its hooks return."""

from __future__ import annotations

from importlib import import_module

import pytest

from graphopt.registry import BUILTIN_PLUGINS, Registry
from graphopt.registry.kinds import KINDS


@pytest.mark.parametrize("plural", ["passes", "targets", "cost_models"])
def test_everything_that_is_found_is_registered(plural):
    registered = getattr(Registry(), plural)()
    finders = [getattr(import_module(name), "FINDERS", {}) for name in BUILTIN_PLUGINS]
    (find,) = [found[plural] for found in finders if plural in found]
    for name, thing in registered.items():
        assert find(name) in {None, thing} if plural == "cost_models" else find(name) == thing
    assert plural in KINDS


def test_a_pass_is_found_without_the_others():
    registry = Registry()
    assert registry.pass_class("fold-pad").name == "fold-pad"
    assert not registry._own.things
    assert registry.provider_of("passes", "fold-pad") == "graphopt"


@pytest.mark.parametrize("name", ["nothing", "movement", "../base", "fold_pad", ""])
def test_nothing_else_is_found(name):
    from graphopt.passes.builtin import find_pass
    from graphopt.targets.builtin import find_target

    assert find_pass(name) is None
    assert find_target(name) is None


def test_an_alias_of_a_target_is_still_known():
    assert Registry().target("graviton2").name == "neoverse-n1"
