"""The built-in targets, registered through the same hook as everybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl
from graphopt.targets.host import host_target
from graphopt.targets.reader import builtin_target, builtin_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.targets.base import Target


@hookimpl
def graphopt_register_targets() -> Sequence[Target]:
    """Return the shipped targets and this machine."""
    return [*builtin_targets(), host_target()]


def find_target(name: str) -> Target | None:
    """Return a target by its own name without reading the others; None for an alias."""
    return host_target() if name == "host" else builtin_target(name)


FINDERS = {"targets": find_target}
"""By the end of a hook's name: what finds one thing of those that the hook returns, or None."""
